/* A disk and a clock that the nemesis holds in its hands, put between a node and the C library by LD_PRELOAD.
 *
 * Disk: before a file below COTERIE_SHIM_DATA is changed, what the change destroys is written down in an undo log below
 * COTERIE_SHIM_UNDO; the fsync of that file makes the log empty. So after a kill -9 the log holds exactly what a power
 * cut may take away, and undoing it backwards gives the file as it was at its last fsync. Names (a file made, unlinked,
 * renamed) are logged in the same way until their directory is fsynced. A log outlives its process: what one process has
 * written and not synced is not safe because another has opened it since.
 *
 * COTERIE_SHIM_CONTROL is a page shared with the nemesis: how far the wall clock is off, how slow fsync is, whether the
 * disk is full, whether fsync lies. COTERIE_SHIM_SOURCE is the address from which the node dials its peers.
 *
 * -shm files are left out: SQLite maps them, and rebuilds them from the log.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS 65536
#define FILES 256
#define MAGIC 0x75646f31u
#define REAL(name) ((__typeof__(&name)) real(#name))

struct control {
    volatile int64_t clock_ns; /* added to the wall clock */
    volatile int64_t slow_us;  /* slept before each fsync */
    volatile int64_t full;     /* nothing may grow */
    volatile int64_t lies;     /* fsync returns 0 and does nothing */
};

struct record { /* followed by `kept` bytes: what was at `at` */
    uint32_t magic, kind;
    int64_t at, kept, size, written; /* size: the file's, before; written: how many bytes the change wrote there */
};

struct file {
    dev_t device;
    ino_t inode;
    int log;
    int reader; /* for those who opened it only for writing; never closed, for that would let go of SQLite's locks */
    pthread_mutex_t lock;
};

static struct control none, *control = &none;
static const char *data, *undo, *source;
static size_t data_length;
static struct file files[FILES];
static int file_count, names_log = -1;
static struct file *by_fd[FDS];
static char directory[FDS];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("COTERIE_SHIM_CONTROL"), *parent = getenv("COTERIE_SHIM_PARENT");
    data = getenv("COTERIE_SHIM_DATA");
    undo = getenv("COTERIE_SHIM_UNDO");
    source = getenv("COTERIE_SHIM_SOURCE");
    data_length = data ? strlen(data) : 0;
    if (path) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
        if (fd >= 0) {
            void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (page != MAP_FAILED) control = page;
            syscall(SYS_close, fd);
        }
    }
    if (parent) { /* nodes end with the nemesis, however it ends */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != atoi(parent)) _exit(1);
    }
}

/* --- the logs ------------------------------------------------------------------------------------------------ */

static int raw_open(const char *path, int flags) {
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static void must(int good, const char *what) {
    if (good) return;
    dprintf(2, "shim: %s failed: %s\n", what, strerror(errno));
    abort();
}

static int below(const char *path) {
    size_t length = path ? strlen(path) : 0;
    if (!data || !undo || length < data_length || strncmp(path, data, data_length)) return 0;
    if (path[data_length] && path[data_length] != '/') return 0;
    return length < 4 || strcmp(path + length - 4, "-shm");
}

static void name_changed(char kind, const char *one, const char *other) {
    char line[8192];
    int length = snprintf(line, sizeof line, "%c\t%s\t%s\n", kind, one, other);
    pthread_mutex_lock(&table);
    if (names_log < 0) {
        char path[4096];
        snprintf(path, sizeof path, "%s/names", undo);
        names_log = raw_open(path, O_RDWR | O_CREAT | O_APPEND);
        must(names_log >= 0, "opening the log of names");
    }
    must(syscall(SYS_write, names_log, line, length) == length, "writing the log of names");
    pthread_mutex_unlock(&table);
}

static struct file *file_of(int fd, const char *path) {
    struct stat found;
    struct file *file = NULL;
    char log[4096];
    if (fstat(fd, &found) || !S_ISREG(found.st_mode)) return NULL;
    pthread_mutex_lock(&table);
    for (int i = 0; i < file_count; i++)
        if (files[i].inode == found.st_ino && files[i].device == found.st_dev) file = &files[i];
    if (!file) {
        must(file_count < FILES, "counting files");
        file = &files[file_count++];
        file->device = found.st_dev;
        file->inode = found.st_ino;
        pthread_mutex_init(&file->lock, NULL);
        snprintf(log, sizeof log, "%s/%llu.path", undo, (unsigned long long)found.st_ino);
        int name = raw_open(log, O_WRONLY | O_CREAT | O_TRUNC);
        must(name >= 0 && syscall(SYS_write, name, path, strlen(path)) >= 0, "noting a path");
        syscall(SYS_close, name);
        snprintf(log, sizeof log, "%s/%llu.undo", undo, (unsigned long long)found.st_ino);
        file->log = raw_open(log, O_RDWR | O_CREAT | O_APPEND);
        must(file->log >= 0, "opening an undo log");
    }
    pthread_mutex_unlock(&table);
    return file;
}

/* Write down what a change of [at, at + length) of a file takes away; the file's lock is held. */
static void keep(struct file *file, int fd, int64_t at, int64_t length, int64_t kept, int64_t size) {
    struct record record = {MAGIC, 1, at, kept, size, length};
    char *bytes = kept ? malloc((size_t)kept) : NULL;
    must(!kept || bytes, "allocating");
    if (kept && ((int)syscall(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
        if (!file->reader) {
            char same[64];
            snprintf(same, sizeof same, "/proc/self/fd/%d", fd);
            file->reader = raw_open(same, O_RDONLY);
            must(file->reader > 0, "opening for reading");
        }
        fd = file->reader;
    }
    for (int64_t done = 0; done < kept;) {
        long count = syscall(SYS_pread64, fd, bytes + done, (size_t)(kept - done), at + done);
        must(count > 0, "reading what is overwritten");
        done += count;
    }
    struct iovec parts[2] = {{&record, sizeof record}, {bytes, (size_t)kept}};
    must(syscall(SYS_writev, file->log, parts, 2) == (long)(sizeof record) + kept, "writing an undo log");
    free(bytes);
}

static int64_t size_of(int fd) {
    struct stat found;
    must(!fstat(fd, &found), "asking for a size");
    return found.st_size;
}

/* --- opening and closing ------------------------------------------------------------------------------------- */

static int opened(int at, const char *path, int flags, mode_t mode) {
    int ours = path && path[0] == '/' && below(path), made = 0;
    if (ours && flags & O_CREAT) made = access(path, F_OK) != 0;
    if (ours && flags & O_TRUNC && !made) { /* so that what is cut off is logged */
        int fd = (int)syscall(SYS_openat, at, path, flags & ~O_TRUNC, mode);
        if (fd < 0) return fd;
        if (fd < FDS) by_fd[fd] = file_of(fd, path);
        must(!ftruncate(fd, 0), "truncating");
        return fd;
    }
    if (made) name_changed('C', path, "");
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd < 0 || fd >= FDS) return fd;
    by_fd[fd] = ours ? file_of(fd, path) : NULL;
    directory[fd] = (char)(ours && !by_fd[fd]);
    return fd;
}

#define MODE(flags, last)                                                                                     \
    mode_t mode = 0;                                                                                          \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                    \
        va_list rest;                                                                                         \
        va_start(rest, last);                                                                                 \
        mode = va_arg(rest, mode_t);                                                                          \
        va_end(rest);                                                                                         \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, flags) return opened(at, path, flags, mode); }

int close(int fd) {
    if (fd >= 0 && fd < FDS) {
        by_fd[fd] = NULL;
        directory[fd] = 0;
    }
    return REAL(close)(fd);
}

/* --- changing ------------------------------------------------------------------------------------------------ */

static struct file *tracked(int fd) { return fd >= 0 && fd < FDS ? by_fd[fd] : NULL; }

static ssize_t written(struct file *file, int fd, const void *bytes, size_t length, int64_t at, int positioned) {
    pthread_mutex_lock(&file->lock);
    int64_t size = size_of(fd);
    if (!positioned) {
        int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
        at = flags & O_APPEND ? size : (int64_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    }
    ssize_t count = -1;
    if (control->full && at + (int64_t)length > size) {
        errno = ENOSPC;
    } else {
        int64_t kept = size > at ? size - at : 0;
        keep(file, fd, at, (int64_t)length, kept < (int64_t)length ? kept : (int64_t)length, size);
        count = positioned ? syscall(SYS_pwrite64, fd, bytes, length, at) : syscall(SYS_write, fd, bytes, length);
    }
    int error = errno;
    pthread_mutex_unlock(&file->lock);
    errno = error;
    return count;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct file *file = tracked(fd);
    return file ? written(file, fd, bytes, length, 0, 0) : REAL(write)(fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    struct file *file = tracked(fd);
    return file ? written(file, fd, bytes, length, at, 1) : REAL(pwrite)(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    struct file *file = tracked(fd);
    return file ? written(file, fd, bytes, length, at, 1) : REAL(pwrite64)(fd, bytes, length, at);
}

int ftruncate(int fd, off_t length) {
    struct file *file = tracked(fd);
    if (!file) return REAL(ftruncate)(fd, length);
    pthread_mutex_lock(&file->lock);
    int64_t size = size_of(fd);
    keep(file, fd, length < size ? length : size, 0, length < size ? size - length : 0, size);
    int result = (int)syscall(SYS_ftruncate, fd, length);
    int error = errno;
    pthread_mutex_unlock(&file->lock);
    errno = error;
    return result;
}

int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

int unlink(const char *path) {
    static int number;
    if (path[0] != '/' || !below(path)) return REAL(unlink)(path);
    char saved[4096];
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    snprintf(saved, sizeof saved, "%s/saved-%d-%d-%lld", undo, (int)getpid(), __sync_add_and_fetch(&number, 1),
             (long long)now.tv_nsec);
    if (link(path, saved)) return REAL(unlink)(path); /* there is no such file: let unlink say so */
    name_changed('U', path, saved);
    return REAL(unlink)(path);
}

int rename(const char *from, const char *to) {
    if (from[0] == '/' && to[0] == '/' && below(from) && below(to)) {
        if (!access(to, F_OK)) unlink(to); /* logged; the moment without the file does not outlive this process's lock */
        name_changed('R', from, to);
    }
    return REAL(rename)(from, to);
}

/* --- syncing ------------------------------------------------------------------------------------------------- */

static int synced(int fd, int whole) {
    struct file *file = tracked(fd);
    int is_directory = fd >= 0 && fd < FDS && directory[fd];
    if (!file && !is_directory) return whole ? REAL(fsync)(fd) : REAL(fdatasync)(fd);
    if (control->slow_us) usleep((useconds_t)control->slow_us);
    if (control->lies) return 0;
    if (file) pthread_mutex_lock(&file->lock);
    int result = (int)syscall(whole ? SYS_fsync : SYS_fdatasync, fd), error = errno;
    if (!result && file) must(!syscall(SYS_ftruncate, file->log, 0), "emptying an undo log");
    if (file) pthread_mutex_unlock(&file->lock);
    if (!result && is_directory) {
        pthread_mutex_lock(&table);
        if (names_log >= 0) must(!syscall(SYS_ftruncate, names_log, 0), "emptying the log of names");
        else {
            char path[4096];
            snprintf(path, sizeof path, "%s/names", undo);
            syscall(SYS_unlink, path);
        }
        pthread_mutex_unlock(&table);
    }
    errno = error;
    return result;
}

int fsync(int fd) { return synced(fd, 1); }
int fdatasync(int fd) { return synced(fd, 0); }

/* --- the network --------------------------------------------------------------------------------------------- */

/* Dial the nemesis' proxies (127.0.2.x) from an address of this node's own, so that they know who it is. */
int connect(int fd, const struct sockaddr *to, socklen_t length) {
    const struct sockaddr_in *peer = (const struct sockaddr_in *)to;
    if (source && to->sa_family == AF_INET && ntohl(peer->sin_addr.s_addr) >> 8 == 0x7f0002) {
        struct sockaddr_in own = {.sin_family = AF_INET};
        int yes = 1;
        inet_pton(AF_INET, source, &own.sin_addr);
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        bind(fd, (struct sockaddr *)&own, sizeof own);
    }
    return REAL(connect)(fd, to, length);
}

/* --- the clock ----------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*library)(clockid_t, struct timespec *);
    if (!library) library = REAL(clock_gettime);
    int result = library(clock, now);
    int64_t off = control->clock_ns;
    if (!result && off && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t all = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + off;
        now->tv_sec = all / 1000000000;
        now->tv_nsec = all % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (where) *where = exact.tv_sec;
    return exact.tv_sec;
}
