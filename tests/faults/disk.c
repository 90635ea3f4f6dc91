/* A disk that fails: preloaded, it counts what changes files below one folder, and lets one such call, or all from
   one on, end with an error. What to do is in a file that all processes share, the environment names it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct order {
    long calls;   /* so far */
    long at;      /* the one that fails; 0: none */
    int error;    /* errno */
    int forever;  /* whether all later ones fail too */
    char folder[PATH_MAX];
};

static struct order *order;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("NMCL_TEST_DISK");
    int file = name ? open(name, O_RDWR) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED) order = shared;
}

static int below(const char *path) {
    size_t length = order && path ? strlen(order->folder) : 0;
    return length && !strncmp(path, order->folder, length);
}

static int of_file(int file) {
    char link[64], path[PATH_MAX];
    if (!order || !order->folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static int fails(void) {
    long call = __sync_add_and_fetch(&order->calls, 1);
    if (!order->at || call < order->at || (call > order->at && !order->forever)) return 0;
    errno = order->error;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(type, name, parameters, arguments) \
    type name parameters { return of_file(file) && fails() ? -1 : NEXT(name) arguments; }
#define ON_PATH(name, parameters, arguments) \
    int name parameters { return below(path) && fails() ? -1 : NEXT(name) arguments; }
#define OPENING(name, parameters, first) \
    int name parameters { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); } \
        return (flags & (O_CREAT | O_TRUNC)) && below(path) && fails() ? -1 : NEXT(name) first; \
    }

ON_FILE(ssize_t, write, (int file, const void *data, size_t n), (file, data, n))
ON_FILE(ssize_t, writev, (int file, const struct iovec *data, int n), (file, data, n))
ON_FILE(ssize_t, pwrite, (int file, const void *data, size_t n, off_t at), (file, data, n, at))
ON_FILE(ssize_t, pwrite64, (int file, const void *data, size_t n, off64_t at), (file, data, n, at))
ON_FILE(int, fsync, (int file), (file))
ON_FILE(int, fdatasync, (int file), (file))
ON_FILE(int, ftruncate, (int file, off_t n), (file, n))
ON_FILE(int, ftruncate64, (int file, off64_t n), (file, n))
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(mkdirat, (int at, const char *path, mode_t mode), (at, path, mode))
ON_PATH(rename, (const char *from, const char *path), (from, path))
ON_PATH(renameat, (int one, const char *from, int other, const char *path), (one, from, other, path))
ON_PATH(renameat2, (int one, const char *from, int other, const char *path, unsigned flags), (one, from, other, path, flags))
ON_PATH(symlink, (const char *to, const char *path), (to, path))
ON_PATH(symlinkat, (const char *to, int at, const char *path), (to, at, path))
OPENING(open, (const char *path, int flags, ...), (path, flags, mode))
OPENING(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENING(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPENING(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))
