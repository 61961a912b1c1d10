"""The tests. They import torch with the same settings of its threads as the program does."""

from longtake.threads import prepare_threads

prepare_threads()
