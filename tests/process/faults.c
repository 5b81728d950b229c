/* LD_PRELOAD: makes the disk under one folder fail on demand, and writes down what reached it.
 *
 * LevelDB (and Python) call libc for every change of a file; these functions stand in front of libc's and do the work
 * with plain system calls. Everything is told by the environment, read once:
 *
 *   KVS_FAULT_DIR     only files under this folder count (an absolute path without links)
 *   KVS_FAULT_SUFFIX  only names that end or begin with one of these words, e.g. ".log,MANIFEST"; empty: every name
 *   KVS_FAULT_CALL    only these calls: open (that creates), write, pwrite, sync, rename, unlink, mkdir, truncate,
 *                     fallocate
 *   KVS_FAULT_GATE    only while this file exists (so that a test says when the counting begins); empty: always
 *   KVS_FAULT_AT      the number of the call that fails, from 1; 0: none, but each matching call is reported
 *   KVS_FAULT_KIND    enospc, eio: fail       torn: half of the bytes are written, the next matching call gets ENOSPC
 *                     short: half is written  exit: end the process before the call    half: after half of the bytes
 *   KVS_FAULT_LASTING 1: every matching call from KVS_FAULT_AT on fails (until the gate goes away)
 *   KVS_FAULT_REOPEN  N: also every N-th sync of a log fails, uncounted, so that the database is opened again and again
 *   KVS_FAULT_REPORT  a line "number call path" is appended here for each call that was made to fail
 *   KVS_JOURNAL       every change under KVS_FAULT_DIR is appended here (powercut.py reads it)
 *   KVS_CLOCK         a file of 8 bytes: by how many ms (i64) the wall clock is ahead. It is mapped, so that a test moves
 *                     the clock of a process that runs. The clocks that never go back are left alone.
 *
 * One lock is held over each call on a watched file, so that the journal has the order in which things happened.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char *dir, *suffixes, *calls, *gate, *kind, *report;
static long at, seen, reopen, log_syncs;
static int lasting, torn_pending, journal = -1;
static const volatile int64_t *ahead_ms;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

__attribute__((constructor)) static void configure(void) {
    dir = setting("KVS_FAULT_DIR");
    suffixes = setting("KVS_FAULT_SUFFIX");
    calls = setting("KVS_FAULT_CALL");
    gate = setting("KVS_FAULT_GATE");
    kind = setting("KVS_FAULT_KIND");
    report = setting("KVS_FAULT_REPORT");
    at = atol(setting("KVS_FAULT_AT"));
    reopen = atol(setting("KVS_FAULT_REOPEN"));
    lasting = *setting("KVS_FAULT_LASTING") == '1';
    const char *path = setting("KVS_JOURNAL");
    if (*path)
        journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    path = setting("KVS_CLOCK");
    if (*path) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead_ms, PROT_READ, MAP_SHARED, fd, 0);
        if (mapped == MAP_FAILED)
            syscall(SYS_exit_group, 96); /* a clock that cannot be moved would prove nothing */
        ahead_ms = mapped;
        syscall(SYS_close, fd);
    }
}

/* --- what is watched --- */

static int watched(const char *path) {
    size_t length = dir ? strlen(dir) : 0;
    return length && path && !strncmp(path, dir, length) && (path[length] == '/' || !path[length]);
}

/* The path behind a descriptor, or NULL when it is not under the folder. `room` has PATH_MAX bytes. */
static const char *path_of(int fd, char *room) {
    char link[40];
    if (!dir || !*dir || fd < 0)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, room, PATH_MAX - 1);
    if (length < 0)
        return NULL;
    room[length] = 0;
    return watched(room) ? room : NULL;
}

static int listed(const char *list, const char *text, int whole) {
    size_t length = strlen(text);
    if (!*list)
        return 1;
    for (const char *word = list; *word;) {
        size_t n = strcspn(word, ",");
        if (whole ? n == length && !strncmp(word, text, n)
                  : n <= length && (!strncmp(word, text, n) || !strncmp(text + length - n, word, n)))
            return 1;
        word += n + (word[n] == ',');
    }
    return 0;
}

/* --- faults --- */

static void tell(const char *call, const char *path) {
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", seen, call, path);
    int fd = syscall(SYS_openat, AT_FDCWD, report, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
        syscall(SYS_write, fd, line, length);
        syscall(SYS_close, fd);
    }
}

static int gate_is_shut(void) { return *gate && syscall(SYS_faccessat, AT_FDCWD, gate, F_OK) != 0; }

/* 0: go on. 1: fail with errno set. 2: do half of it. Does not return when the process is to end here. */
static int struck(const char *call, const char *path) {
    const char *name = strrchr(path, '/');
    if (reopen && !strcmp(call, "sync") && listed(".log", path, 0) && !gate_is_shut() && ++log_syncs % reopen == 0) {
        errno = EIO;
        return 1;
    }
    if (!*kind || !listed(calls, call, 1) || !listed(suffixes, name ? name + 1 : path, 0) || gate_is_shut())
        return 0;
    seen++;
    int hit = at && (seen == at || (lasting && seen > at) || torn_pending);
    if (hit || !at)
        tell(call, path);
    if (!hit)
        return 0;
    int is_write = !strcmp(call, "write");
    if (!strcmp(kind, "exit") || (!strcmp(kind, "half") && !is_write))
        syscall(SYS_exit_group, 99);
    if (is_write && (!strcmp(kind, "short") || !strcmp(kind, "half") || (!strcmp(kind, "torn") && !torn_pending))) {
        torn_pending = !strcmp(kind, "torn");
        return 2;
    }
    torn_pending = 0;
    errno = strcmp(kind, "eio") ? ENOSPC : EIO;
    return 1;
}

/* --- the journal: op:char a_length:u32 b_length:u32 a b --- */

/* `b` is what two places hold, one behind the other. */
static void note_two(char op, const char *a, const void *b, size_t b_length, const void *c, size_t c_length) {
    if (journal < 0)
        return;
    uint32_t lengths[2] = {strlen(a), b_length + c_length};
    struct iovec parts[] = {
        {&op, 1}, {lengths, sizeof lengths}, {(void *)a, lengths[0]}, {(void *)b, b_length}, {(void *)c, c_length}};
    if (syscall(SYS_writev, journal, parts, 5) < 0)
        syscall(SYS_exit_group, 98); /* a journal with a hole would prove nothing */
}

static void note(char op, const char *a, const void *b, size_t b_length) { note_two(op, a, b, b_length, NULL, 0); }

static void note_write(const char *path, int64_t offset, const void *data, size_t size) {
    note_two('W', path, &offset, sizeof offset, data, size);
}

/* Runs `expression` (a system call) under the lock unless a fault strikes; `after` notes what it did. */
#define GUARDED(call, path, expression, after)                                                                        \
    do {                                                                                                              \
        pthread_mutex_lock(&lock);                                                                                    \
        long result = struck(call, path) ? -1 : (expression);                                                         \
        int error = errno;                                                                                            \
        if (result >= 0) {                                                                                            \
            after;                                                                                                    \
        }                                                                                                             \
        pthread_mutex_unlock(&lock);                                                                                  \
        errno = error;                                                                                                \
        return result;                                                                                                \
    } while (0)

/* --- libc's functions --- */

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    if (!watched(path) || !(flags & (O_CREAT | O_TRUNC)))
        return syscall(SYS_openat, folder, path, flags, mode);
    GUARDED("open", path, syscall(SYS_openat, folder, path, flags, mode),
            note(flags & O_TRUNC ? 'T' : 'C', path, NULL, 0));
}

#define MODE_ARGUMENT(flags)                                                                                          \
    va_list rest;                                                                                                     \
    va_start(rest, flags);                                                                                            \
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                                         \
    va_end(rest)

int open(const char *path, int flags, ...) { MODE_ARGUMENT(flags); return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_ARGUMENT(flags); return open_at(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags);
    return open_at(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags);
    return open_at(folder, path, flags, mode);
}

/* Half of one byte is that byte: writes of nothing would be repeated for ever. */
ssize_t write(int fd, const void *data, size_t size) {
    char room[PATH_MAX];
    const char *path = path_of(fd, room);
    if (!path)
        return syscall(SYS_write, fd, data, size);
    pthread_mutex_lock(&lock);
    int strike = struck("write", path);
    ssize_t done = strike == 1 ? -1 : syscall(SYS_write, fd, data, strike == 2 && size > 1 ? size / 2 : size);
    int error = errno;
    if (done > 0)
        note_write(path, syscall(SYS_lseek, fd, 0, SEEK_CUR) - done, data, done);
    if (strike == 2 && !strcmp(kind, "half"))
        syscall(SYS_exit_group, 99);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

/* How a log is laid out in advance. It is a call of its own, so that the n-th write is LevelDB's. */
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    char room[PATH_MAX];
    const char *path = path_of(fd, room);
    if (!path)
        return syscall(SYS_pwrite64, fd, data, size, offset);
    GUARDED("pwrite", path, syscall(SYS_pwrite64, fd, data, size, offset), note_write(path, offset, data, result));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return pwrite(fd, data, size, offset); }
/* Not used by LevelDB 1.22. Whoever writes this way makes the journal wrong, so it is refused loudly. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    char room[PATH_MAX];
    if (path_of(fd, room))
        syscall(SYS_exit_group, 97);
    return syscall(SYS_writev, fd, parts, count);
}

static int sync_file(long number, int fd) {
    char room[PATH_MAX];
    const char *path = path_of(fd, room);
    if (!path)
        return syscall(number, fd);
    GUARDED("sync", path, syscall(number, fd), note('S', path, NULL, 0));
}
int fsync(int fd) { return sync_file(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }

int rename(const char *from, const char *to) {
    if (!watched(to))
        return syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    GUARDED("rename", to, syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to), note('R', from, to, strlen(to)));
}

int unlink(const char *path) {
    if (!watched(path))
        return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    GUARDED("unlink", path, syscall(SYS_unlinkat, AT_FDCWD, path, 0), note('U', path, NULL, 0));
}

int mkdir(const char *path, mode_t mode) {
    if (!watched(path))
        return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    GUARDED("mkdir", path, syscall(SYS_mkdirat, AT_FDCWD, path, mode), note('M', path, NULL, 0));
}

int ftruncate(int fd, off_t length) {
    char room[PATH_MAX];
    const char *path = path_of(fd, room);
    if (!path)
        return syscall(SYS_ftruncate, fd, length);
    GUARDED("truncate", path, syscall(SYS_ftruncate, fd, length), note('L', path, &length, sizeof length));
}
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

/* Returns the error instead of setting errno. */
int posix_fallocate(int fd, off_t offset, off_t length) {
    char room[PATH_MAX];
    const char *path = path_of(fd, room);
    pthread_mutex_lock(&lock);
    int failed = path && struck("fallocate", path) ? 1 : syscall(SYS_fallocate, fd, 0, offset, length) < 0;
    int error = errno;
    pthread_mutex_unlock(&lock);
    return failed ? error : 0;
}
int posix_fallocate64(int fd, off_t offset, off_t length) { return posix_fallocate(fd, offset, length); }

/* --- the wall clock --- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && ahead_ms && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_nsec + *ahead_ms % 1000 * 1000000;
        now->tv_sec += *ahead_ms / 1000 + (ns >= 1000000000) - (ns < 0);
        now->tv_nsec = ns + (ns < 0 ? 1000000000 : ns >= 1000000000 ? -1000000000 : 0);
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}
