/* Preloaded: the N-th write to, sync of, or opening of one file fails, or kills. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, OPEN = 3 };

static int armed, at, code, count;
static char name[64];

void crash_arm(int kind, int n, int error, const char *file) {
    count = 0; at = n; code = error; armed = kind;
    snprintf(name, sizeof name, "/%s", file);
}
int crash_count(void) { return count; }

static int springs_at(const char *path, ssize_t size) {
    ssize_t length = strlen(name);
    if (size < length || memcmp(path + size - length, name, length)) return 0;
    if (++count != at) return 0;
    if (!code) { kill(getpid(), SIGKILL); pause(); }
    errno = code;
    return 1;
}

static int springs(int kind, int fd) {
    char link[64], path[4096];
    if (kind != armed) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return springs_at(path, readlink(link, path, sizeof path - 1));
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write); return springs(WRITE, fd) ? -1 : real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t to) {
    REAL(pwrite); return springs(WRITE, fd) ? -1 : real(fd, data, size, to);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t to) {
    REAL(pwrite64); return springs(WRITE, fd) ? -1 : real(fd, data, size, to);
}
ssize_t writev(int fd, const struct iovec *data, int n) {
    REAL(writev); return springs(WRITE, fd) ? -1 : real(fd, data, n);
}
ssize_t pwritev(int fd, const struct iovec *data, int n, off_t to) {
    REAL(pwritev); return springs(WRITE, fd) ? -1 : real(fd, data, n, to);
}
int fsync(int fd) { REAL(fsync); return springs(SYNC, fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return springs(SYNC, fd) ? -1 : real(fd); }

#define OPENS(called) \
int called(const char *path, int flags, ...) { \
    REAL(called); \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    if (armed == OPEN && springs_at(path, strlen(path))) return -1; \
    return real(path, flags, mode); \
}
OPENS(open)
OPENS(open64)
