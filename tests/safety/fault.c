/* A disk that can be watched, and that can fail: LD_PRELOAD for tests.safety.cuts.
 *
 * Everything that a process does to files below SKADI_FAULT_DIR is written to SKADI_FAULT_TRACE:
 * writes, truncations, syncs, renames, removals, in order. From the trace one can tell what a disk
 * may hold after the power went at any instant. With SKADI_FAULT_FSYNC=n the n-th sync (and with
 * SKADI_FAULT_STAYS=1 every one after it) fails with EIO and is not in the trace.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS 4096
static char *names[FDS];
static const char *below;
static int trace_fd = -1;
static long syncs, fail_at, stays;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("SKADI_FAULT_TRACE"), *text;
    below = getenv("SKADI_FAULT_DIR");
    if (file && below)
        trace_fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if ((text = getenv("SKADI_FAULT_FSYNC"))) fail_at = atol(text);
    if ((text = getenv("SKADI_FAULT_STAYS"))) stays = atol(text);
}

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        long done = syscall(SYS_write, trace_fd, at, size);
        if (done <= 0) abort();
        at += done;
        size -= (size_t)done;
    }
}

static void tell(char what, const char *name, uint64_t offset, const void *data, size_t size) {
    uint32_t n = (uint32_t)strlen(name), m = (uint32_t)size;
    if (trace_fd < 0) return;
    put(&what, 1); put(&n, 4); put(name, n); put(&offset, 8); put(&m, 4);
    if (size) put(data, size);
}

static int ours(const char *name) {
    return below && name && strncmp(name, below, strlen(below)) == 0;
}

static const char *name_of(int fd) { return fd >= 0 && fd < FDS ? names[fd] : NULL; }

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int opened(int fd, const char *name, int flags) {
    if (fd >= 0 && fd < FDS) {
        free(names[fd]);
        names[fd] = ours(name) ? strdup(name) : NULL;
        if (names[fd] && (flags & O_CREAT)) tell('O', name, (flags & O_TRUNC) != 0, NULL, 0);
    }
    return fd;
}

#define OPEN(symbol) \
    int symbol(const char *name, int flags, ...) { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); } \
        REAL(int, #symbol, const char *, int, ...); \
        return opened(real(name, flags, mode), name, flags); \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    REAL(int, "close", int);
    if (fd >= 0 && fd < FDS && names[fd]) { free(names[fd]); names[fd] = NULL; }
    return real(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    ssize_t done = real(fd, data, size);
    if (done > 0 && name_of(fd))
        tell('W', names[fd], (uint64_t)(lseek(fd, 0, SEEK_CUR) - done), data, (size_t)done);
    return done;
}

#define PWRITE(symbol, off) \
    ssize_t symbol(int fd, const void *data, size_t size, off at) { \
        REAL(ssize_t, #symbol, int, const void *, size_t, off); \
        ssize_t done = real(fd, data, size, at); \
        if (done > 0 && name_of(fd)) tell('W', names[fd], (uint64_t)at, data, (size_t)done); \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(symbol, off) \
    int symbol(int fd, off size) { \
        REAL(int, #symbol, int, off); \
        int done = real(fd, size); \
        if (done == 0 && name_of(fd)) tell('T', names[fd], (uint64_t)size, NULL, 0); \
        return done; \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

static int synced(int fd, int (*real)(int)) {
    if (!name_of(fd)) return real(fd);
    syncs++;
    if (fail_at && (syncs == fail_at || (stays && syncs > fail_at))) { errno = EIO; return -1; }
    int done = real(fd);
    if (done == 0) tell('S', names[fd], 0, NULL, 0);
    return done;
}

int fsync(int fd) { REAL(int, "fsync", int); return synced(fd, real); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); return synced(fd, real); }

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    int done = real(from, to);
    if (done == 0 && ours(from)) tell('R', from, 0, to, strlen(to));
    return done;
}

int unlink(const char *name) {
    REAL(int, "unlink", const char *);
    int done = real(name);
    if (done == 0 && ours(name)) tell('U', name, 0, NULL, 0);
    return done;
}
