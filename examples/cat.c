/* cc -O2 -o cat examples/cat.c -pthread */

/* cat - prints files one after the other, and reads the next ones meanwhile.
 *
 *     ./cat [FILE ...]        `-`, and no file at all, is the standard input
 *
 * AHEAD files are open at a time, each with two blocks: one is filled while the other is written, and
 * the files whose turn it is not yet fill both. So a slow disk or a slow reader is waited for once,
 * not in turns, and memory is the same for any number of files of any size. What is no plain file (a
 * pipe, a terminal) is not read before its turn: it may belong to somebody else.
 *
 * Opening or reading a pipe may take for ever. The pool has a thread for each file and one for
 * writing, so that this holds up nothing else. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 4, BLOCK = 64 * 1024, STDIN = 0, STDOUT = 1 };

typedef struct {
    evl_fs_t req;
    int number; /* of the file among the arguments; -1: the slot is free */
    evl_file file;
    int is_open, is_plain;
    int is_output; /* as well: it would grow as long as it is read */
    int is_busy;   /* a request is under way */
    int is_over;   /* nothing more can be read … */
    ssize_t error; /* … for this reason, if it is not 0 */
    int first, full;
    size_t lengths[2];
    char blocks[2][BLOCK]; /* from `first` on, `full` of them are to be written */
} slot_t;

static evl_loop_t loop;
static slot_t slots[AHEAD];
static char **names;
static int count, current; /* files; the one that is written */
static evl_fs_t write_req;
static int is_writing, status;
static size_t written; /* of the block that is being written */
static evl_stat_t output;
static int is_output_plain;

static void go_on(void);
static void read_on(slot_t *slot);

static void check(int result, const char *what) {
    if (result >= 0)
        return;
    fprintf(stderr, "cat: %s: %s\n", what, evl_strerror(result));
    exit(1);
}

static int is_plain(const evl_stat_t *info) {
    return (info->st_mode & 0170000) == 0100000; /* S_ISREG, which not every system has */
}

static int is_stdin(const slot_t *slot) {
    return strcmp(names[slot->number], "-") == 0;
}

/* ---- Reading ---- */

static void on_read(evl_fs_t *req) {
    slot_t *slot = (slot_t *)req->data;
    ssize_t n = req->result;
    evl_fs_req_cleanup(req);
    slot->is_busy = 0;
    if (n <= 0) {
        slot->is_over = 1;
        slot->error = n;
    } else {
        slot->lengths[(slot->first + slot->full++) % 2] = (size_t)n;
    }
    read_on(slot);
    go_on();
}

/* Fills the next block, if there is one and it may be done now. */
static void read_on(slot_t *slot) {
    int may_now = slot->number == current || (slot->is_plain && !is_stdin(slot));
    evl_buf_t buf = evl_buf_init(slot->blocks[(slot->first + slot->full) % 2], BLOCK);
    if (!slot->is_open || slot->is_busy || slot->is_over || slot->full == 2 || !may_now)
        return;
    slot->is_busy = 1;
    check(evl_fs_read(&loop, &slot->req, slot->file, &buf, 1, -1, on_read), "evl_fs_read");
}

static void on_stat(evl_fs_t *req) {
    slot_t *slot = (slot_t *)req->data;
    const evl_stat_t *info = &req->statbuf;
    slot->is_busy = 0;
    slot->is_plain = req->result == 0 && is_plain(info);
    slot->is_output = slot->is_plain && is_output_plain && info->st_ino == output.st_ino &&
                      info->st_dev == output.st_dev;
    slot->is_over = slot->is_output;
    evl_fs_req_cleanup(req);
    read_on(slot);
    go_on();
}

static void stat_file(slot_t *slot, evl_file file) {
    slot->file = file;
    slot->is_open = slot->is_busy = 1;
    check(evl_fs_fstat(&loop, &slot->req, file, on_stat), "evl_fs_fstat");
}

static void on_opened(evl_fs_t *req) {
    slot_t *slot = (slot_t *)req->data;
    ssize_t file = req->result;
    evl_fs_req_cleanup(req);
    slot->is_busy = 0;
    if (file >= 0) {
        stat_file(slot, (evl_file)file);
    } else {
        slot->is_over = 1;
        slot->error = file;
        go_on();
    }
}

/* Gives a file to its slot, if there is such a file. */
static void start(int number) {
    slot_t *slot = &slots[number % AHEAD];
    slot->number = number < count ? number : -1;
    slot->req.data = slot;
    slot->is_open = slot->is_plain = slot->is_output = slot->is_over = slot->first = slot->full = 0;
    slot->error = 0;
    if (slot->number < 0)
        return;
    if (is_stdin(slot)) {
        stat_file(slot, STDIN);
        return;
    }
    slot->is_busy = 1;
    check(evl_fs_open(&loop, &slot->req, names[number], EVL_FS_O_RDONLY, 0, on_opened),
          "evl_fs_open");
}

/* ---- Writing ---- */

static void on_closed(evl_fs_t *req) {
    slot_t *slot = (slot_t *)req->data;
    evl_fs_req_cleanup(req);
    slot->is_busy = 0;
    start(slot->number + AHEAD);
    go_on();
}

/* The current file has been written: it makes room for another. */
static void finish(slot_t *slot) {
    if (slot->error != 0 || slot->is_output) {
        fprintf(stderr, "cat: %s: %s\n", names[slot->number],
                slot->is_output ? "is the output, too" : evl_strerror((int)slot->error));
        status = 1;
    }
    current++;
    if (slot->is_open && slot->file != STDIN) {
        slot->is_busy = 1;
        check(evl_fs_close(&loop, &slot->req, slot->file, on_closed), "evl_fs_close");
    } else {
        start(slot->number + AHEAD);
    }
}

static void on_written(evl_fs_t *req) {
    slot_t *slot = &slots[current % AHEAD];
    ssize_t n = req->result;
    evl_fs_req_cleanup(req);
    if (n == EVL_EPIPE)
        exit(1); /* nobody reads any more, and nobody wants to hear of it */
    check((int)n, "standard output");
    is_writing = 0;
    written += (size_t)n;
    if (written == slot->lengths[slot->first]) {
        written = 0;
        slot->first = 1 - slot->first;
        slot->full--;
    }
    go_on();
    read_on(slot);
}

/* Writes the next block in order, if it has been read. */
static void go_on(void) {
    slot_t *slot = &slots[current % AHEAD];
    while (!is_writing && slot->number == current && slot->is_over && slot->full == 0) {
        finish(slot);
        slot = &slots[current % AHEAD];
        if (slot->number == current)
            read_on(slot); /* it may have waited for its turn */
    }
    if (!is_writing && slot->number == current && slot->full > 0) {
        evl_buf_t buf = evl_buf_init(slot->blocks[slot->first] + written,
                                     (unsigned)(slot->lengths[slot->first] - written));
        is_writing = 1;
        check(evl_fs_write(&loop, &write_req, STDOUT, &buf, 1, -1, on_written), "evl_fs_write");
    }
}

int main(int argc, char **argv) {
    static char dash[] = "-";
    static char *standard_input[] = {dash};
    evl_pool_options_t options = {AHEAD + 1, 0, 0, "cat"};
    evl_pool_t pool;
    evl_fs_t req;
    names = argc > 1 ? argv + 1 : standard_input;
    count = argc > 1 ? argc - 1 : 1;
    check(evl_loop_init(&loop), "evl_loop_init");
    check(evl_pool_init(&pool, &options), "evl_pool_init");
    check(evl_loop_set_pool(&loop, &pool), "evl_loop_set_pool");
    if (evl_fs_fstat(NULL, &req, STDOUT, NULL) == 0) {
        output = req.statbuf;
        is_output_plain = is_plain(&output) && output.st_ino != 0; /* 0: nobody knows which */
    }
    evl_fs_req_cleanup(&req);
    for (int i = 0; i < AHEAD; i++)
        start(i);
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
    check(evl_loop_close(&loop), "evl_loop_close");
    check(evl_pool_close(&pool), "evl_pool_close");
    return status;
}
