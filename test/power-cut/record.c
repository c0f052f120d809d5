// Writes down what a program does to the files of a folder, in the order in which it happens: an LD_PRELOAD library for
// Linux with glibc on 64 bits. power-cut.ts reads what it writes; recorder.ts builds it and names its settings:
//   KEYMETER_RECORD_UNDER      the folder, as an absolute path without links
//   KEYMETER_RECORD_TO         the record
//   KEYMETER_SYNC_FAILS_WHILE  a file: while it exists, fsync and fdatasync fail with EIO and reach no disk
//   KEYMETER_SYNC_WAITS_WHILE  a file: while it exists, they wait
//   KEYMETER_SYNC_TAKES_US     how long each takes beyond what the disk does, as a slower one would
// One lock stands around each change and its record, so the record has the order of the disk's cache. A sync waits
// outside of it, and stands there twice: what was changed before it began, and when it returned. The kernel says which
// file a descriptor means: no dup, rename or close can be missed. Not seen are changes by mmap (SQLite makes those to
// its -shm alone, which it builds anew), fallocate, copy_file_range and io_uring, none of which the ledger uses.
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
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, SIZE, UNLINK, RENAME, LINK, SYNC_BEGAN, SYNC_RETURNED };

// Then come the path and the data: what was written, or the other path.
struct head {
  uint32_t kind, path_bytes;
  uint64_t began_ns, ended_ns;
  int64_t number; // WRITE: the offset. SIZE: the size. SYNC_RETURNED: the error.
  uint64_t data_bytes;
};

enum { AT_POSITION = -1 };

static const char *under, *fails_while, *waits_while;
static useconds_t takes_us;
static size_t under_bytes;
static int record = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void) {
  const char *to = getenv("KEYMETER_RECORD_TO");
  under = getenv("KEYMETER_RECORD_UNDER");
  fails_while = getenv("KEYMETER_SYNC_FAILS_WHILE");
  waits_while = getenv("KEYMETER_SYNC_WAITS_WHILE");
  const char *takes = getenv("KEYMETER_SYNC_TAKES_US");
  takes_us = takes ? (useconds_t)strtoul(takes, NULL, 10) : 0;
  if (!to || !under) return;
  under_bytes = strlen(under);
  record = open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  // A program that this one starts has descriptors and an order of its own: it is not recorded.
  unsetenv("LD_PRELOAD");
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

// The folder itself counts: to sync it is to keep its names.
static int is_recorded(const char *path) {
  if (record < 0 || strncmp(path, under, under_bytes) != 0) return 0;
  if (path[under_bytes] != '/' && path[under_bytes] != '\0') return 0;
  size_t bytes = strlen(path);
  return bytes < 4 || strcmp(path + bytes - 4, "-shm") != 0;
}

static int is_recorded_file(int file, char path[PATH_MAX]) {
  char link[32];
  if (record < 0) return 0;
  int error = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t bytes = readlink(link, path, PATH_MAX - 1);
  errno = error;
  if (bytes < 0) return 0;
  path[bytes] = '\0';
  return is_recorded(path);
}

// A record that cannot be written would make every test of it a lie.
static void append(const void *bytes, size_t count) {
  for (const char *next = bytes; count > 0;) {
    ssize_t n = syscall(SYS_write, record, next, count);
    if (n < 0 && errno != EINTR) abort();
    if (n > 0) next += n, count -= (size_t)n;
  }
}

static void note(enum kind kind, const char *path, uint64_t began_ns, int64_t number, const struct iovec *data,
                 size_t data_bytes) {
  int error = errno;
  struct head head = {kind, (uint32_t)strlen(path), began_ns, now_ns(), number, data_bytes};
  append(&head, sizeof head);
  append(path, head.path_bytes);
  for (; data_bytes > 0; data++) {
    size_t bytes = data->iov_len < data_bytes ? data->iov_len : data_bytes;
    append(data->iov_base, bytes);
    data_bytes -= bytes;
  }
  errno = error;
}

static void note_path(enum kind kind, const char *path, uint64_t began_ns, const char *other) {
  struct iovec data = {(void *)other, strlen(other)};
  note(kind, path, began_ns, 0, &data, data.iov_len);
}

static int open_file(const char *path, int flags, mode_t mode) {
  if (!(flags & (O_CREAT | O_TRUNC)) || !is_recorded(path))
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  pthread_mutex_lock(&lock);
  int error = errno;
  int existed = access(path, F_OK) == 0;
  errno = error;
  uint64_t began_ns = now_ns();
  int file = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  if (file >= 0 && !existed) note(CREATE, path, began_ns, 0, NULL, 0);
  else if (file >= 0 && (flags & O_TRUNC)) note(SIZE, path, began_ns, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return file;
}

static ssize_t write_pieces(int file, const struct iovec *pieces, int count, off_t offset) {
  char path[PATH_MAX];
  int recorded = is_recorded_file(file, path);
  if (recorded) pthread_mutex_lock(&lock);
  uint64_t began_ns = now_ns();
  ssize_t bytes = offset == AT_POSITION ? syscall(SYS_writev, file, pieces, count)
                                        : syscall(SYS_pwritev, file, pieces, count, offset, 0);
  if (!recorded) return bytes;
  // Behind it is where it ended, also in a file that is appended to.
  if (offset == AT_POSITION && bytes > 0) offset = lseek(file, 0, SEEK_CUR) - bytes;
  if (bytes > 0) note(WRITE, path, began_ns, offset, pieces, (size_t)bytes);
  pthread_mutex_unlock(&lock);
  return bytes;
}

static ssize_t write_piece(int file, const void *data, size_t bytes, off_t offset) {
  struct iovec piece = {(void *)data, bytes};
  return write_pieces(file, &piece, 1, offset);
}

static int resize(int file, off_t size) {
  char path[PATH_MAX];
  if (!is_recorded_file(file, path)) return (int)syscall(SYS_ftruncate, file, size);
  pthread_mutex_lock(&lock);
  uint64_t began_ns = now_ns();
  int result = (int)syscall(SYS_ftruncate, file, size);
  if (result == 0) note(SIZE, path, began_ns, size, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

static int resize_path(const char *path, off_t size) {
  int file = open_file(path, O_WRONLY | O_CLOEXEC, 0);
  if (file < 0) return -1;
  int result = resize(file, size);
  close(file);
  return result;
}

static int is_there(const char *path) { return path && access(path, F_OK) == 0; }

static int sync_file(long call, int file) {
  char path[PATH_MAX];
  if (!is_recorded_file(file, path)) return (int)syscall(call, file);
  pthread_mutex_lock(&lock);
  uint64_t began_ns = now_ns();
  note(SYNC_BEGAN, path, began_ns, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  if (takes_us > 0) usleep(takes_us);
  while (is_there(waits_while)) usleep(1000);
  int error = is_there(fails_while) ? EIO : syscall(call, file) < 0 ? errno : 0;
  pthread_mutex_lock(&lock);
  note(SYNC_RETURNED, path, began_ns, error, NULL, 0);
  pthread_mutex_unlock(&lock);
  if (error == 0) return 0;
  errno = error;
  return -1;
}

int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open_file(path, flags, mode);
}

int creat(const char *path, mode_t mode) { return open_file(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t write(int file, const void *data, size_t bytes) { return write_piece(file, data, bytes, AT_POSITION); }

ssize_t writev(int file, const struct iovec *pieces, int count) {
  return write_pieces(file, pieces, count, AT_POSITION);
}

ssize_t pwrite(int file, const void *data, size_t bytes, off_t offset) {
  return write_piece(file, data, bytes, offset);
}

ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t offset) {
  return write_pieces(file, pieces, count, offset);
}

int ftruncate(int file, off_t size) { return resize(file, size); }

int truncate(const char *path, off_t size) {
  return is_recorded(path) ? resize_path(path, size) : (int)syscall(SYS_truncate, path, size);
}

int fsync(int file) { return sync_file(SYS_fsync, file); }

int fdatasync(int file) { return sync_file(SYS_fdatasync, file); }

int unlink(const char *path) {
  if (!is_recorded(path)) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  pthread_mutex_lock(&lock);
  uint64_t began_ns = now_ns();
  int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  if (result == 0) note(UNLINK, path, began_ns, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int rename(const char *from, const char *to) {
  if (!is_recorded(from) && !is_recorded(to)) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  pthread_mutex_lock(&lock);
  uint64_t began_ns = now_ns();
  int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  if (result == 0) note_path(RENAME, from, began_ns, to);
  pthread_mutex_unlock(&lock);
  return result;
}

int link(const char *from, const char *to) {
  if (!is_recorded(to)) return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
  pthread_mutex_lock(&lock);
  uint64_t began_ns = now_ns();
  int result = (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
  if (result == 0) note_path(LINK, from, began_ns, to);
  pthread_mutex_unlock(&lock);
  return result;
}

// On 64 bits these are the same calls.
#define SAME_AS(name) __attribute__((alias(#name)))
int open64(const char *path, int flags, ...) SAME_AS(open);
int creat64(const char *path, mode_t mode) SAME_AS(creat);
ssize_t pwrite64(int file, const void *data, size_t bytes, off_t offset) SAME_AS(pwrite);
ssize_t pwritev64(int file, const struct iovec *pieces, int count, off_t offset) SAME_AS(pwritev);
int ftruncate64(int file, off_t size) SAME_AS(ftruncate);
int truncate64(const char *path, off_t size) SAME_AS(truncate);
