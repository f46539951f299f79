/* cc -O2 -o checksum examples/checksum.c -pthread */

/* checksum - sums a directory tree, many files at a time.
 *
 *     ./checksum [--stat] [--progress] [DIRECTORY]
 *
 * Prints how many files, directories and bytes there are, and a checksum of all names and contents
 * that does not depend on the order in which they come. Links are not followed; what is neither file
 * nor directory is left out. --stat asks for each file's size, too, and says how many files had
 * another one once they were read. --progress draws the bar also when stderr is no terminal.
 *
 * Every call that may wait for a disk is made by a thread of the pool. Memory is bounded: FILES files
 * and FOLDERS directories are open at a time, and a directory is read BATCH names at a time, the next
 * ones when there is room for them. Only the list of directories still to be read grows.
 *
 * How long the loop was blocked: in its prepare phase, once a turn, a watcher looks at the clock and
 * takes off what the loop has slept since the turn before (evl_metrics_idle_time). The rest is how
 * long a timer or a socket would have had to wait. It is time by the wall, so it holds as well what
 * the system gave to others meanwhile. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FILES = 16,            /* open at a time */
    FOLDERS = 4,           /* being read at a time */
    BATCH = 64,            /* names that are read at a time */
    BLOCK = 64 * 1024,     /* bytes of a file that are read at a time */
    INLINE_MAX = 4 * 1024, /* bytes that are summed on the loop's thread: it takes 5 us, and to have
                              them summed by the pool took the loop longer */
    PROGRESS_MS = 100,
    BAR = 24
};

/* A directory. Its path follows. */
typedef struct folder_s {
    struct folder_s *next;
} folder_t;

/* Reads one directory after the other. */
typedef struct {
    evl_fs_t req;
    folder_t *folder; /* NULL: none */
    evl_dir_t *dir;   /* NULL: not open */
    evl_dirent_t entries[BATCH];
    int next, count; /* entries that are still to be taken */
    int is_busy;     /* a request is under way */
    int is_read;     /* to its end */
} reader_t;

/* Sums one file after the other. */
typedef struct summer_s {
    struct summer_s *next; /* of those that are free */
    evl_fs_t req;
    evl_work_t work;
    char *path;
    evl_file file; /* -1: not open */
    uint64_t sum, bytes, size;
    size_t filled;
    char block[BLOCK];
} summer_t;

static evl_loop_t loop;
static reader_t readers[FOLDERS];
static summer_t summers[FILES];
static summer_t *free_summers;
static folder_t *pending; /* found, but not read yet */
static size_t root_length;
static int want_stat, want_progress, is_interrupted;

static struct {
    uint64_t files, folders, bytes, sum;
    uint64_t found;   /* folders */
    uint64_t failed;  /* files and folders */
    uint64_t changed; /* files */
} total;

static evl_timer_t progress;
static evl_async_t interrupt;
static evl_prepare_t prepare;
static evl_histogram_t turns; /* how long they kept the loop busy */
static uint64_t began_ns, turn_ns, turn_slept_ns;

static void check(int result, const char *what) {
    if (result >= 0)
        return;
    fprintf(stderr, "checksum: %s: %s\n", what, evl_strerror(result));
    exit(1);
}

static void clear_progress(void) {
    if (want_progress)
        fprintf(stderr, "\r%79s\r", "");
}

static void fail(const char *path, ssize_t error) {
    total.failed++;
    clear_progress();
    fprintf(stderr, "checksum: %s: %s\n", path, evl_strerror((int)error));
}

/* FNV-1a, 64 bits. */
static uint64_t sum_of(uint64_t sum, const char *data, size_t length) {
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)data[i]) * 1099511628211u;
    return sum;
}

/* ---- Paths ---- */

static char *folder_path(folder_t *folder) {
    return (char *)(folder + 1);
}

static size_t join(char *out, const char *path, const char *name) {
    size_t length = strlen(path), more = strlen(name);
    int slash = length > 0 && path[length - 1] != '/' && more > 0;
    if (out != NULL) {
        memcpy(out, path, length);
        out[length] = '/';
        memcpy(out + length + slash, name, more + 1);
    }
    return length + (size_t)slash + more + 1;
}

/* A directory for later. The newest is read first, so that the list stays short. */
static void push(const char *path, const char *name) {
    folder_t *folder;
    if (is_interrupted)
        return;
    total.found++;
    folder = (folder_t *)malloc(sizeof(*folder) + join(NULL, path, name));
    if (folder == NULL) {
        fail(path, EVL_ENOMEM);
        return;
    }
    join(folder_path(folder), path, name);
    folder->next = pending;
    pending = folder;
}

/* ---- Files ---- */

static void go_on(void);
static void on_read(evl_fs_t *req);

/* The slot is free again; the caller sees to it that something comes of it. */
static void release(summer_t *summer) {
    free(summer->path);
    summer->next = free_summers;
    free_summers = summer;
}

static void on_closed(evl_fs_t *req) {
    evl_fs_req_cleanup(req);
    release((summer_t *)req->data);
    go_on();
}

/* Ends a file, which has been read if `error` is 0. */
static void finish(summer_t *summer, ssize_t error) {
    if (error < 0) {
        fail(summer->path, error);
    } else if (!is_interrupted) {
        total.files++;
        total.sum += summer->sum;
        total.changed += want_stat && summer->bytes != summer->size;
    }
    if (summer->file < 0 || evl_fs_close(&loop, &summer->req, summer->file, on_closed) != 0) {
        release(summer);
        go_on();
    }
}

static void read_next(summer_t *summer) {
    evl_buf_t buf = evl_buf_init(summer->block, BLOCK);
    int error = is_interrupted ? 0
                               : evl_fs_read(&loop, &summer->req, summer->file, &buf, 1,
                                             (int64_t)summer->bytes, on_read);
    if (is_interrupted || error != 0)
        finish(summer, error);
}

/* On a thread of the pool. */
static void sum_block(evl_work_t *work) {
    summer_t *summer = (summer_t *)work->data;
    summer->sum = sum_of(summer->sum, summer->block, summer->filled);
}

static void on_summed(evl_work_t *work, int status) {
    check(status, "evl_queue_work");
    read_next((summer_t *)work->data);
}

static void on_read(evl_fs_t *req) {
    summer_t *summer = (summer_t *)req->data;
    ssize_t n = req->result;
    evl_fs_req_cleanup(req);
    if (n <= 0) { /* less than a block need not be the end, but nothing is */
        finish(summer, n);
        return;
    }
    summer->filled = (size_t)n;
    summer->bytes += (size_t)n;
    total.bytes += (size_t)n;
    if (n > INLINE_MAX && evl_queue_work(&loop, &summer->work, sum_block, on_summed) == 0)
        return;
    sum_block(&summer->work);
    read_next(summer);
}

static void on_size(evl_fs_t *req) {
    summer_t *summer = (summer_t *)req->data;
    ssize_t error = req->result;
    summer->size = req->statbuf.st_size;
    evl_fs_req_cleanup(req);
    if (error < 0)
        finish(summer, error);
    else
        read_next(summer);
}

static void on_opened(evl_fs_t *req) {
    summer_t *summer = (summer_t *)req->data;
    ssize_t file = req->result;
    int error = 0;
    evl_fs_req_cleanup(req);
    if (file < 0) {
        finish(summer, file);
        return;
    }
    summer->file = (evl_file)file;
    if (!want_stat)
        read_next(summer);
    else if ((error = evl_fs_fstat(&loop, req, summer->file, on_size)) != 0)
        finish(summer, error);
}

/* It was a file when the directory was read. Should it be a link or a pipe by now, then this neither
 * follows nor waits. */
static int open_file(summer_t *summer) {
    const int flags = EVL_FS_O_RDONLY | EVL_FS_O_NOFOLLOW | EVL_FS_O_NONBLOCK | EVL_FS_O_NOCTTY;
    return evl_fs_open(&loop, &summer->req, summer->path, flags, 0, on_opened);
}

/* What the directory did not say: what is a file. */
static void on_kind(evl_fs_t *req) {
    enum { KIND = 0170000, KIND_FOLDER = 0040000, KIND_FILE = 0100000 }; /* the same everywhere */
    summer_t *summer = (summer_t *)req->data;
    ssize_t result = req->result;
    uint64_t kind = req->statbuf.st_mode & KIND;
    evl_fs_req_cleanup(req);
    if (result == 0 && kind == KIND_FILE)
        result = open_file(summer);
    if (result < 0) {
        finish(summer, result);
    } else if (kind != KIND_FILE) {
        if (kind == KIND_FOLDER)
            push(summer->path, "");
        release(summer);
        go_on();
    }
}

/* Takes a free slot for a file. Its name counts as well, as seen from the top, so that swapped names
 * and moved files are noticed. */
static void start_file(const char *folder, const evl_dirent_t *entry) {
    summer_t *summer = free_summers;
    char *path = (char *)malloc(join(NULL, folder, entry->name));
    int error;
    if (path == NULL) {
        fail(folder, EVL_ENOMEM);
        return;
    }
    free_summers = summer->next;
    join(path, folder, entry->name);
    summer->path = path;
    summer->file = -1;
    summer->bytes = summer->size = 0;
    summer->sum = sum_of(14695981039346656037u, path + root_length, strlen(path + root_length) + 1);
    error = entry->type == EVL_DIRENT_UNKNOWN ? evl_fs_lstat(&loop, &summer->req, path, on_kind)
                                              : open_file(summer);
    if (error != 0) {
        fail(path, error);
        release(summer);
    }
}

/* ---- Directories ---- */

static void end_folder(reader_t *reader) {
    free(reader->folder);
    reader->folder = NULL;
    reader->is_busy = 0;
}

static void on_folder_closed(evl_fs_t *req) {
    evl_fs_req_cleanup(req);
    end_folder((reader_t *)req->data);
    total.folders++;
    go_on();
}

static void on_folder_read(evl_fs_t *req) {
    reader_t *reader = (reader_t *)req->data;
    reader->is_busy = 0;
    reader->is_read = req->result <= 0;
    reader->next = 0;
    reader->count =
        req->result > 0 ? (int)req->result : 0; /* their names stay until the next read */
    if (req->result < 0)
        fail(folder_path(reader->folder), req->result);
    go_on();
}

static void on_folder_opened(evl_fs_t *req) {
    reader_t *reader = (reader_t *)req->data;
    ssize_t error = req->result;
    reader->dir = (evl_dir_t *)req->ptr;
    evl_fs_req_cleanup(req);
    reader->is_busy = 0;
    if (error < 0) {
        fail(folder_path(reader->folder), error);
        end_folder(reader);
    } else {
        reader->dir->dirents = reader->entries;
        reader->dir->nentries = BATCH;
        reader->is_read = reader->next = reader->count = 0;
    }
    go_on();
}

/* With nothing left to take: reads on, or closes what is read, or begins with the next directory. */
static void read_on(reader_t *reader) {
    int error;
    if (reader->folder == NULL) {
        if (pending == NULL)
            return;
        reader->folder = pending;
        pending = pending->next;
        error = evl_fs_opendir(&loop, &reader->req, folder_path(reader->folder), on_folder_opened);
    } else {
        evl_fs_req_cleanup(&reader->req);
        error = reader->is_read || is_interrupted
                    ? evl_fs_closedir(&loop, &reader->req, reader->dir, on_folder_closed)
                    : evl_fs_readdir(&loop, &reader->req, reader->dir, on_folder_read);
    }
    reader->is_busy = error == 0;
    check(error, folder_path(reader->folder)); /* without memory for so little we give up */
}

/* Starts on the entries, as far as there are free slots. */
static void take_entries(reader_t *reader) {
    for (; reader->next < reader->count; reader->next++) {
        const evl_dirent_t *entry = &reader->entries[reader->next];
        if (entry->type == EVL_DIRENT_DIR)
            push(folder_path(reader->folder), entry->name);
        if (entry->type != EVL_DIRENT_FILE && entry->type != EVL_DIRENT_UNKNOWN)
            continue;
        if (free_summers == NULL)
            return;
        start_file(folder_path(reader->folder), entry);
    }
}

/* Called whenever something has come to its end: starts what there is room for. */
static void go_on(void) {
    for (int i = 0; i < FOLDERS; i++) {
        reader_t *reader = &readers[i];
        if (is_interrupted)
            reader->next = reader->count;
        if (!reader->is_busy)
            take_entries(reader);
        if (!reader->is_busy && reader->next == reader->count)
            read_on(reader);
    }
}

/* ---- Meanwhile ---- */

static void on_prepare(evl_prepare_t *watcher) {
    uint64_t now = evl_hrtime(), slept = evl_metrics_idle_time(&loop);
    (void)watcher;
    evl_histogram_record(&turns, now - turn_ns - (slept - turn_slept_ns));
    turn_ns = now;
    turn_slept_ns = slept;
}

/* Nobody knows how much there is before all of it is read, so the bar is of the directories found so
 * far. */
static void on_progress(evl_timer_t *timer) {
    char bar[BAR + 1];
    int full = total.found > 0 ? (int)(total.folders * BAR / total.found) : 0;
    double seconds = (double)(evl_hrtime() - began_ns) / 1e9;
    (void)timer;
    memset(bar, '.', BAR);
    memset(bar, '#', (size_t)full);
    bar[BAR] = '\0';
    fprintf(stderr, "\r[%s] %llu files, %.0f MB, %.0f files/s, %.0f MB/s ", bar,
            (unsigned long long)total.files, (double)total.bytes / 1e6,
            (double)total.files / seconds, (double)total.bytes / 1e6 / seconds);
    fflush(stderr);
}

/* What is open is closed, and nothing more is started. */
static void on_interrupt(evl_async_t *async) {
    (void)async;
    is_interrupted = 1;
    while (pending != NULL) {
        folder_t *folder = pending;
        pending = folder->next;
        free(folder);
    }
    go_on();
}

/* The next signal ends the process. */
static void on_signal(int number) {
    signal(number, SIG_DFL);
    evl_async_send(&interrupt);
}

/* ---- Main ---- */

static void print_total(void) {
    printf("files        %llu\n", (unsigned long long)total.files);
    printf("directories  %llu\n", (unsigned long long)total.folders);
    printf("bytes        %llu\n", (unsigned long long)total.bytes);
    printf("checksum     %016llx%s\n", (unsigned long long)total.sum,
           is_interrupted ? " of a part: interrupted" : "");
    printf("unreadable   %llu\n", (unsigned long long)total.failed);
    if (want_stat)
        printf("changed      %llu\n", (unsigned long long)total.changed);
    printf("seconds      %.2f\n", (double)(evl_hrtime() - began_ns) / 1e9);
    printf("blocked      %.3f ms at most, %.3f ms in 99 %% of the turns\n",
           (double)evl_histogram_max(&turns) / 1e6,
           (double)evl_histogram_percentile(&turns, 99) / 1e6);
}

static void start(const char *root) {
    for (int i = 0; i < FOLDERS; i++)
        readers[i].req.data = &readers[i];
    for (int i = FILES; i-- > 0;) {
        summers[i].req.data = summers[i].work.data = &summers[i];
        summers[i].next = free_summers;
        free_summers = &summers[i];
    }
    check(evl_loop_init(&loop), "evl_loop_init");
    check(evl_loop_configure(&loop, EVL_METRICS_IDLE_TIME), "evl_loop_configure");
    /* None of the three keeps the loop from ending. */
    check(evl_async_init(&loop, &interrupt, on_interrupt), "evl_async_init");
    evl_unref((evl_handle_t *)&interrupt);
    signal(SIGINT, on_signal);
    evl_timer_init(&loop, &progress);
    evl_unref((evl_handle_t *)&progress);
    if (want_progress)
        check(evl_timer_start(&progress, on_progress, PROGRESS_MS, PROGRESS_MS), "evl_timer_start");
    evl_prepare_init(&loop, &prepare);
    evl_unref((evl_handle_t *)&prepare);
    check(evl_prepare_start(&prepare, on_prepare), "evl_prepare_start");
    evl_histogram_reset(&turns);
    root_length = join(NULL, root, "x") - 2; /* up to where names begin */
    began_ns = turn_ns = evl_hrtime();
    push(root, "");
    go_on();
}

static int usage(FILE *stream) {
    fputs("usage: checksum [--stat] [--progress] [DIRECTORY]\n", stream);
    return stream == stdout ? 0 : 2;
}

int main(int argc, char **argv) {
    const char *root = NULL;
    want_progress = evl_guess_handle(2) == EVL_TTY;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--stat") == 0)
            want_stat = 1;
        else if (strcmp(argv[i], "--progress") == 0)
            want_progress = 1;
        else if (strcmp(argv[i], "--help") == 0)
            return usage(stdout);
        else if (argv[i][0] == '-' || argv[i][0] == '\0' || root != NULL)
            return usage(stderr);
        else
            root = argv[i];
    }
    start(root != NULL ? root : ".");
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
    on_prepare(&prepare);
    clear_progress();
    print_total();
    check(evl_loop_destroy(&loop, 1000), "evl_loop_destroy");
    evl_library_shutdown();
    return is_interrupted ? 130 : total.failed > 0;
}
