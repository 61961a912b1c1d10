/* Keeps a copy of what is certainly on disk: of each file and folder as it was when it was last flushed.

Preloaded into a process (LD_PRELOAD), it extends fsync and fdatasync for all files below the folder SYNCED_ROOT. Each call
writes to the folder SYNCED_COPIES the bytes of the file, or the entries of the folder, under the file's identity (inode
number and time of birth). tests/worker/power_cut.py builds from these copies the disk as it is after a power cut. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int identify(int folder, const char *name, int flags, char *identity, int *is_folder) {
    struct statx facts;
    if (statx(folder, name, flags | AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_INO | STATX_BTIME, &facts))
        return -1;
    *is_folder = S_ISDIR(facts.stx_mode);
    sprintf(identity, "%llx-%llx-%x", (unsigned long long)facts.stx_ino, (long long)facts.stx_btime.tv_sec,
            facts.stx_btime.tv_nsec);
    return 0;
}

static void copy_entries(const char *path, FILE *copy) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    char identity[64];
    int is_folder;
    while (folder && (entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
            !identify(dirfd(folder), entry->d_name, 0, identity, &is_folder))
            fprintf(copy, "%s %c %s\n", identity, is_folder ? 'd' : 'f', entry->d_name);
    if (folder)
        closedir(folder);
}

/* Reads with the caller's own descriptor: opening and closing the file again would drop the locks that SQLite has on it. */
static void copy_bytes(int fd, FILE *copy) {
    static _Thread_local char piece[65536];
    off_t at = 0;
    ssize_t size;
    while ((size = pread(fd, piece, sizeof piece, at)) > 0) {
        fwrite(piece, 1, size, copy);
        at += size;
    }
}

static void keep(int fd) {
    static atomic_int number;
    const char *root = getenv("SYNCED_ROOT"), *copies = getenv("SYNCED_COPIES");
    char link[64], path[PATH_MAX], identity[64], temporary[PATH_MAX + 64], copy_path[PATH_MAX + 64];
    int is_folder;
    if (!root || !copies)
        return;
    sprintf(link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return;
    path[length] = 0;
    if (strncmp(path, root, strlen(root)) || identify(fd, "", AT_EMPTY_PATH, identity, &is_folder))
        return;
    sprintf(temporary, "%s/.%d.%d", copies, getpid(), atomic_fetch_add(&number, 1));
    sprintf(copy_path, "%s/%s", copies, strcmp(path, root) ? identity : "root");
    FILE *copy = fopen(temporary, "w");
    if (!copy)
        return;
    if (is_folder)
        copy_entries(path, copy);
    else
        copy_bytes(fd, copy);
    fclose(copy);
    rename(temporary, copy_path);
}

int fsync(int fd) {
    static int (*next)(int);
    if (!next)
        next = dlsym(RTLD_NEXT, "fsync");
    int result = next(fd);
    if (!result)
        keep(fd);
    return result;
}

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next)
        next = dlsym(RTLD_NEXT, "fdatasync");
    int result = next(fd);
    if (!result)
        keep(fd);
    return result;
}
