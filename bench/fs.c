/* Files through the worker pool: stat, and reads of 4 KiB.
 * Libraries: evloop libuv
 *
 * 32 operations are under way, or one, and each that ends starts the next one. The file is in the page
 * cache, so that what is measured is the way to a thread and back around a short system call. Each
 * result is checked: the size that stat tells, the count and the bytes of each block that was read. */
#include "bench.h"
#include "pool.h"

#include <sys/stat.h>

enum {
    BLOCK = 4096,
    BLOCKS = 2048,
    UNDER_WAY = 32,
    STATS = 100000,
    READS = 100000,
    ALONE = 10000 /* with one under way */
};

static char path[512];
static int file;
static char buffers[UNDER_WAY][BLOCK];
static unsigned block_of[UNDER_WAY]; /* which block a slot reads */
static int reading;                  /* which of the two is running */
static unsigned to_start, started, ended;

/* Each library defines this: start_op() queues the request with the number `slot`. */
static void start_op(unsigned slot);

static void start_next(unsigned slot) {
    to_start--;
    block_of[slot] = started++ % BLOCKS;
    start_op(slot);
}

/* Each library's callback ends here, with what its request tells. */
static void op_ended(unsigned slot, int64_t result, uint64_t size) {
    if (reading) {
        uint32_t first, last;
        memcpy(&first, buffers[slot], sizeof(first));
        memcpy(&last, buffers[slot] + BLOCK - sizeof(last), sizeof(last));
        bench_check(result == BLOCK && first == block_of[slot] && last == ~block_of[slot],
                    "reading the block");
        memset(buffers[slot], 0, sizeof(first));
    } else {
        bench_check(result == 0 && size == (uint64_t)BLOCK * BLOCKS, "the file's size");
    }
    ended++;
    if (to_start > 0)
        start_next(slot);
}

#if defined(BENCH_EVLOOP)

static evl_fs_t requests[UNDER_WAY];

static void on_op(evl_fs_t *request) {
    int64_t result = request->result;
    uint64_t size = request->statbuf.st_size;
    evl_fs_req_cleanup(request);
    op_ended((unsigned)(request - requests), result, size);
}

static void start_op(unsigned slot) {
    evl_buf_t buf = evl_buf_init(buffers[slot], BLOCK);
    if (reading)
        bench_check(evl_fs_read(&loop, &requests[slot], file, &buf, 1,
                                (int64_t)block_of[slot] * BLOCK, on_op) == 0,
                    "evl_fs_read");
    else
        bench_check(evl_fs_stat(&loop, &requests[slot], path, on_op) == 0, "evl_fs_stat");
}

#elif defined(BENCH_LIBUV)

static uv_fs_t requests[UNDER_WAY];

static void on_op(uv_fs_t *request) {
    int64_t result = request->result;
    uint64_t size = request->statbuf.st_size;
    uv_fs_req_cleanup(request);
    op_ended((unsigned)(request - requests), result, size);
}

static void start_op(unsigned slot) {
    uv_buf_t buf = uv_buf_init(buffers[slot], BLOCK);
    if (reading)
        bench_check(uv_fs_read(&loop, &requests[slot], file, &buf, 1,
                               (int64_t)block_of[slot] * BLOCK, on_op) == 0,
                    "uv_fs_read");
    else
        bench_check(uv_fs_stat(&loop, &requests[slot], path, on_op) == 0, "uv_fs_stat");
}

#endif

static void remove_file(void) {
    unlink(path);
}

/* Each block begins with its number and ends with the complement. */
static void make_file(void) {
    const char *directory = getenv("TMPDIR");
    char block[BLOCK] = {0};
    snprintf(path, sizeof(path), "%s/bench-fs-XXXXXX", directory != NULL ? directory : "/tmp");
    file = mkstemp(path);
    bench_check(file >= 0, "mkstemp");
    atexit(remove_file);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint32_t complement = ~i;
        memcpy(block, &i, sizeof(i));
        memcpy(block + BLOCK - sizeof(complement), &complement, sizeof(complement));
        bench_check(write(file, block, BLOCK) == BLOCK, "write");
    }
}

/* Nanoseconds for each of so many operations. */
static double run_ops(int read, unsigned under_way, unsigned count) {
    uint64_t begin = bench_now_ns();
    reading = read;
    to_start = count;
    started = ended = 0;
    for (unsigned i = 0; i < under_way && i < count; i++)
        start_next(i);
    run_loop();
    begin = bench_now_ns() - begin;
    bench_check(ended == count, "running every operation once");
    return (double)begin / count;
}

static void measure(const char *name, int read, unsigned under_way, unsigned count) {
    if (bench_wants(name))
        bench_report(name, "ns", run_ops(read, under_way, bench_scaled(count)));
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    unsetenv("UV_USE_IO_URING");
    make_file();
    open_loop();
    run_ops(1, UNDER_WAY, 200); /* so that the threads are there */
    measure("stat, 32 under way", 0, UNDER_WAY, STATS);
    measure("stat, 1 under way", 0, 1, ALONE);
    measure("read 4 KiB, 32 under way", 1, UNDER_WAY, READS);
    measure("read 4 KiB, 1 under way", 1, 1, ALONE);
    close_loop();
    return 0;
}
