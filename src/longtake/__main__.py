"""The program `longtake`, also as `python -m longtake`: takes care of Ctrl-C, then runs the command line."""

import gc
import os
import signal


def main() -> None:
    """Runs the command line. This is the entry point of the program `longtake`.

    Ctrl-C and SIGTERM end the program with one line on standard error and status 130, also while modules are imported.
    Commands that have begun replace these handlers by their own, which clean up.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_at_once)
    from longtake.cli import main as command_line

    try:
        command_line()
    finally:
        gc.freeze()  # otherwise the end of the interpreter visits all objects of torch, which takes two seconds


def _end_at_once(number: int, frame: object) -> None:
    # An exception would not do: modules that are being imported, and the end of the interpreter, can catch or print it.
    try:
        os.write(
            2, f"Error: {'Ctrl-C (SIGINT)' if number == signal.SIGINT else 'SIGTERM'} stopped the command.\n".encode()
        )
    finally:
        os._exit(130)


if __name__ == "__main__":
    main()
