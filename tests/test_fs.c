/* Files: every call of evl_fs_*, at once and on a loop, what it does and how it fails. */
#include "trace.h"

#if !defined(EVLOOP_NO_FS)

#include <sys/stat.h>
#if !defined(_WIN32)
#include <sys/un.h>
#include <sys/wait.h>
#endif

#define MS       UINT64_C(1000000)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- Each form of a call, in a directory of its own ------------------------------------------- */

static evl_loop_t loop;
static evl_fs_t fs;   /* the request of the moment */
static evl_fs_cb how; /* NULL: calls do their work at once */
static int form = -1; /* 0: at once; 1: on the loop */
static int calls;     /* of the callback, since the call */
static int fds;       /* that were open before */
static char scratch[64];

static void on_fs(evl_fs_t *req) {
    CHECK_PTR(req, &fs);
    CHECK_PTR(req->loop, &loop);
    CHECK(req->cb == on_fs);
    calls++;
}

static void never_fs(evl_fs_t *req) {
    (void)req;
    test_fail(__FILE__, __LINE__, "this callback of a request must not run");
}

/* A call at once of what is no test's subject. */
#define NOW(call, ...) now_end(evl_fs_##call(NULL, now_begin(), __VA_ARGS__, NULL))

static evl_fs_t now;

static evl_fs_t *now_begin(void) {
    evl_fs_req_cleanup(&now);
    return &now;
}

static ssize_t now_end(int result) {
    CHECK_EQ(result, now.result);
    return now.result;
}

/* Makes a directory that no other test has, and goes there. */
static void enter_scratch(void) {
    NOW(mkdir, "build", 0777);
    NOW(mkdir, "build/tmp", 0777);
    CHECK_EQ(NOW(mkdtemp, "build/tmp/fs-XXXXXX"), 0);
    CHECK_LT(strlen(now.path), sizeof(scratch));
    memcpy(scratch, now.path, strlen(now.path) + 1);
    os_chdir(scratch);
}

static void remove_tree(const char *path) {
    evl_fs_t list;
    evl_dirent_t entry;
    char *name;
    CHECK_GE(evl_fs_scandir(NULL, &list, path, 0, NULL), 0);
    while (evl_fs_scandir_next(&list, &entry) == 0) {
        name = (char *)malloc(strlen(path) + strlen(entry.name) + 2);
        CHECK(name != NULL);
        memcpy(name, path, strlen(path));
        name[strlen(path)] = '/';
        memcpy(name + strlen(path) + 1, entry.name, strlen(entry.name) + 1);
        CHECK_EQ(NOW(lstat, name), 0);
        if ((now.statbuf.st_mode & S_IFMT) == S_IFDIR) {
            NOW(chmod, name, 0700);
            remove_tree(name);
        } else {
            if (NOW(unlink, name) != 0)
                NOW(chmod, name, 0600); /* what is read-only stays on Windows */
            NOW(unlink, name);
        }
        free(name);
    }
    evl_fs_req_cleanup(&list);
    CHECK_EQ(NOW(rmdir, path), 0);
}

static void leave_scratch(void) {
    os_chdir("../../..");
    remove_tree(scratch);
    evl_fs_req_cleanup(&now);
}

static void open_form(void) {
    fds = test_open_fds();
    enter_scratch();
    memset(&loop, 0xa5, sizeof(loop));
    CHECK_EQ(evl_loop_init(&loop), 0);
    how = form == 0 ? NULL : on_fs;
    trace_reset();
}

static void close_form(void) {
    evl_fs_req_cleanup(&fs);
    finish(&loop);
    evl_library_shutdown();
    leave_scratch();
    CHECK_EQ(test_open_fds(), fds);
    CHECK_EQ(test_alloc_live(), 0);
}

static int next_form(void) {
    if (form >= 0)
        close_form();
    if (++form == 2)
        return 0;
    open_form();
    return 1;
}

/* Once at once, without a loop, and once on the loop; each in an empty directory. */
#define EACH_FORM while (next_form())

static void begin_async(void) {
    form = 1;
    open_form();
}

#define end_async close_form

static evl_loop_t *form_loop(void) {
    return how == NULL ? NULL : &loop;
}

static void fs_begin(void) {
    evl_fs_req_cleanup(&fs);
    memset(&fs, 0xa5, sizeof(fs)); /* what is started relies on nothing */
    fs.data = &fs;
    calls = 0;
}

/* What was started, to its end. */
static ssize_t fs_end(int started) {
    if (how == NULL) {
        CHECK_EQ(started, fs.result);
    } else {
        CHECK_EQ(started, 0);
        CHECK_EQ(calls, 0);
        CHECK_EQ(evl_loop_alive(&loop), 1);
        CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    }
    CHECK_EQ(calls, how != NULL);
    CHECK_EQ(fs.type, EVL_FS);
    CHECK_PTR(fs.data, &fs);
    return fs.result;
}

/* A call in the form of the moment; what it gives is in fs until the next. The arguments must not be
 * taken from fs itself, which is made anew. */
#define FS(call, ...) (fs_begin(), fs_end(evl_fs_##call(form_loop(), &fs, __VA_ARGS__, how)))

/* The error with which a call does not even start. */
#define REFUSED(call, ...)                                                                         \
    (fs_begin(), fs_refused(evl_fs_##call(form_loop(), &fs, __VA_ARGS__, how)))

static int fs_refused(int result) {
    CHECK_LT(result, 0);
    CHECK_EQ(calls, 0);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_PTR(fs.ptr, NULL); /* as it is after the cleanup */
    CHECK_PTR(fs.path, NULL);
    CHECK_PTR(fs.data, &fs);
    evl_fs_req_cleanup(&fs);
    evl_fs_req_cleanup(&fs);
    return result;
}

/* ---- What the tests see of files without evl_fs_* --------------------------------------------- */

static void put(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_EQ(fwrite(bytes, 1, size, file), size);
    CHECK_EQ(fclose(file), 0);
}

static void put_text(const char *path, const char *content) {
    put(path, content, strlen(content));
}

static void check_file(const char *path, const void *bytes, size_t size) {
    char *found = (char *)malloc(size + 1);
    FILE *file = fopen(path, "rb");
    CHECK(found != NULL && file != NULL);
    CHECK_EQ(fread(found, 1, size + 1, file), size);
    CHECK_EQ(fclose(file), 0);
    CHECK_MEM(found, bytes, size);
    free(found);
}

static void check_text(const char *path, const char *content) {
    check_file(path, content, strlen(content));
}

/* Bytes that tell where they belong: no two places a power of two apart are alike. */
static void pattern(char *bytes, size_t size, size_t start) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)((start + i) % 251 + (start + i) / 65521);
}

static int exists(const char *path) {
    evl_fs_t req;
    int result = evl_fs_lstat(NULL, &req, path, NULL);
    evl_fs_req_cleanup(&req);
    CHECK(result == 0 || result == EVL_ENOENT);
    return result == 0;
}

static evl_stat_t status_of(const char *path) {
    CHECK_EQ(NOW(lstat, path), 0);
    return now.statbuf;
}

static evl_file open_now(const char *path, int flags) {
    ssize_t file = NOW(open, path, flags, 0644);
    CHECK_GE(file, 0);
    return (evl_file)file;
}

static void close_now(evl_file file) {
    CHECK_EQ(os_file_close(file), 0);
}

/* A number that no file has. */
static evl_file closed_file(void) {
    evl_file ends[2];
    os_pipe(ends);
    close_now(ends[0]);
    close_now(ends[1]);
    return ends[1];
}

static evl_buf_t buf_of(const char *bytes, size_t size) {
    return evl_buf_init((char *)(uintptr_t)bytes, (unsigned)size);
}

static int64_t position_of(evl_file file) {
#if defined(_WIN32)
    return _lseeki64(file, 0, SEEK_CUR);
#else
    return (int64_t)lseek(file, 0, SEEK_CUR);
#endif
}

static void seek_to(evl_file file, long offset) {
#if defined(_WIN32)
    CHECK_EQ(_lseek(file, offset, SEEK_SET), offset);
#else
    CHECK_EQ(lseek(file, offset, SEEK_SET), offset);
#endif
}

/* ---- Every call that takes a path ------------------------------------------------------------- */

typedef int (*start_fn)(evl_loop_t *, evl_fs_t *, const char *, const char *, evl_fs_cb);

#define START(call, args)                                                                          \
    static int start_##call(evl_loop_t *l, evl_fs_t *r, const char *a, const char *b,              \
                            evl_fs_cb cb) {                                                        \
        (void)b;                                                                                   \
        return evl_fs_##call args;                                                                 \
    }

START(open, (l, r, a, EVL_FS_O_RDONLY, 0, cb))
START(stat, (l, r, a, cb))
START(lstat, (l, r, a, cb))
START(statfs, (l, r, a, cb))
START(access, (l, r, a, 0, cb))
START(chmod, (l, r, a, 0600, cb))
START(utime, (l, r, a, 1000, 2000, cb))
START(lutime, (l, r, a, 1000, 2000, cb))
START(unlink, (l, r, a, cb))
START(rename, (l, r, a, b, cb))
START(link, (l, r, a, b, cb))
START(realpath, (l, r, a, cb))
START(mkdir, (l, r, a, 0755, cb))
START(rmdir, (l, r, a, cb))
START(mkdtemp, (l, r, a, cb))
START(mkstemp, (l, r, a, cb))
START(scandir, (l, r, a, 0, cb))
START(opendir, (l, r, a, cb))
START(copyfile, (l, r, a, b, 0, cb))
START(chown, (l, r, a, (evl_uid_t)-1, (evl_gid_t)-1, cb))
START(lchown, (l, r, a, (evl_uid_t)-1, (evl_gid_t)-1, cb))
START(symlink, (l, r, a, b, 0, cb))
START(readlink, (l, r, a, cb))

typedef struct {
    const char *name;
    start_fn start;
    evl_fs_type type;
    const char *path; /* with which it succeeds after make_things */
    const char *new_path;
} path_call_t;

static const path_call_t path_calls[] = {
    {"open", start_open, EVL_FS_OPEN, "file", NULL},
    {"stat", start_stat, EVL_FS_STAT, "file", NULL},
    {"lstat", start_lstat, EVL_FS_LSTAT, "file", NULL},
    {"statfs", start_statfs, EVL_FS_STATFS, "dir", NULL},
    {"access", start_access, EVL_FS_ACCESS, "file", NULL},
    {"chmod", start_chmod, EVL_FS_CHMOD, "file", NULL},
    {"utime", start_utime, EVL_FS_UTIME, "file", NULL},
    {"lutime", start_lutime, EVL_FS_LUTIME, "file", NULL},
    {"unlink", start_unlink, EVL_FS_UNLINK, "file", NULL},
    {"rename", start_rename, EVL_FS_RENAME, "file", "new"},
    {"link", start_link, EVL_FS_LINK, "file", "new"},
    {"realpath", start_realpath, EVL_FS_REALPATH, "file", NULL},
    {"mkdir", start_mkdir, EVL_FS_MKDIR, "new", NULL},
    {"rmdir", start_rmdir, EVL_FS_RMDIR, "dir", NULL},
    {"mkdtemp", start_mkdtemp, EVL_FS_MKDTEMP, "new-XXXXXX", NULL},
    {"mkstemp", start_mkstemp, EVL_FS_MKSTEMP, "new-XXXXXX", NULL},
    {"scandir", start_scandir, EVL_FS_SCANDIR, ".", NULL},
    {"opendir", start_opendir, EVL_FS_OPENDIR, "dir", NULL},
    {"copyfile", start_copyfile, EVL_FS_COPYFILE, "file", "new"},
    /* what comes now does not see the disk on Windows, or needs a privilege there */
    {"chown", start_chown, EVL_FS_CHOWN, "file", NULL},
    {"lchown", start_lchown, EVL_FS_LCHOWN, "file", NULL},
    {"symlink", start_symlink, EVL_FS_SYMLINK, "file", "new"},
    {"readlink", start_readlink, EVL_FS_READLINK, "link", NULL},
};

#define ANYWHERE_CALLS 19
#if defined(_WIN32)
#define PATH_CALLS ((size_t)ANYWHERE_CALLS)
#else
#define PATH_CALLS COUNT(path_calls)
#endif

static int start_call(const path_call_t *call, const char *path, const char *new_path) {
    fs_begin();
    return call->start(form_loop(), &fs, path, new_path, how);
}

static ssize_t path_call(const path_call_t *call, const char *path, const char *new_path) {
    return fs_end(start_call(call, path, new_path));
}

static void make_things(void) {
    if (exists("thing"))
        remove_tree("thing");
    CHECK_EQ(NOW(mkdir, "thing", 0777), 0);
    os_chdir("thing");
    put_text("file", "content");
    CHECK_EQ(NOW(mkdir, "dir", 0777), 0);
#if !defined(_WIN32)
    CHECK_EQ(symlink("file", "link"), 0);
#endif
}

/* Gives back what a request has opened. */
static void close_result(evl_fs_t *req) {
    if (req->result < 0)
        return;
    if (req->fs_type == EVL_FS_OPEN || req->fs_type == EVL_FS_MKSTEMP)
        close_now((evl_file)req->result);
    if (req->fs_type == EVL_FS_OPENDIR)
        CHECK_EQ(NOW(closedir, (evl_dir_t *)req->ptr), 0);
}

static void check_result(const path_call_t *call, const char *path) {
    if (fs.result < 0)
        fprintf(stderr, "%s of %.200s\n", call->name, path);
    CHECK_GE(fs.result, 0);
    CHECK_EQ(fs.fs_type, call->type);
    CHECK_EQ(evl_fs_get_type(&fs), call->type);
    if (call->type != EVL_FS_MKDTEMP && call->type != EVL_FS_MKSTEMP)
        CHECK_STR(fs.path, path);
    else
        CHECK_MEM(fs.path, path, strlen(path) - 6);
}

TEST(fs_calls_with_paths_succeed) {
    EACH_FORM {
        for (size_t i = 0; i < PATH_CALLS; i++) {
            const path_call_t *call = &path_calls[i];
            make_things();
            path_call(call, call->path, call->new_path);
            check_result(call, call->path);
            close_result(&fs);
            os_chdir("..");
        }
    }
}

TEST(fs_paths_need_not_outlive_the_call) {
    static const size_t lengths[] = {0, 20, 31, 62, 63, 64, 65, 100, 1000, 4000};
    static char path[5000], new_path[5000], expected[5000];
    begin_async();
    for (size_t n = 0; n < COUNT(lengths); n++)
        for (size_t i = 0; i < PATH_CALLS; i++) {
            const path_call_t *call = &path_calls[i];
            make_things();
            path[0] = new_path[0] = '\0';
            if (call->type != EVL_FS_SYMLINK)
                while (strlen(path) + strlen(call->path) < lengths[n])
                    strcat(path, strlen(path) == 0 && lengths[n] % 2 == 0 ? ".//" : "./");
            strcat(path, call->path);
            memcpy(expected, path, sizeof(path));
            if (call->new_path != NULL) {
                while (strlen(new_path) + 4 < lengths[n])
                    strcat(new_path, "./");
                strcat(new_path, call->new_path);
            }
            CHECK_EQ(start_call(call, path, new_path), 0);
            memset(path, 'x', sizeof(path) - 1);
            memset(new_path, 'x', sizeof(new_path) - 1);
            fs_end(0);
            check_result(call, expected);
            if (call->new_path != NULL)
                CHECK(exists(call->new_path));
            close_result(&fs);
            path[sizeof(path) - 1] = new_path[sizeof(new_path) - 1] = '\0';
            os_chdir("..");
        }
    end_async();
}

static void check_all_fail(const char *path, const char *new_path, int error) {
    for (size_t i = 0; i < PATH_CALLS; i++) {
        const path_call_t *call = &path_calls[i];
        ssize_t result = path_call(call, path, new_path);
        if (result != error)
            fprintf(stderr, "%s\n", call->name);
        CHECK_EQ(result, error);
        CHECK_EQ(evl_fs_get_result(&fs), error);
        CHECK_EQ(fs.fs_type, call->type);
        CHECK_PTR(fs.ptr, NULL);
    }
}

TEST(fs_nothing_there) {
    EACH_FORM {
        check_all_fail("missing/a-XXXXXX", "missing/b", EVL_ENOENT);
#if !defined(_WIN32)
        CHECK_EQ(evl_fs_get_system_error(&fs), ENOENT);
#else
        CHECK_EQ(FS(stat, "missing"), EVL_ENOENT);
        CHECK_EQ(evl_fs_get_system_error(&fs), ERROR_FILE_NOT_FOUND);
#endif
    }
}

#if !defined(_WIN32)

TEST(fs_file_in_the_place_of_a_directory) {
    EACH_FORM {
        put_text("file", "content");
        check_all_fail("file/a-XXXXXX", "file/b", EVL_ENOTDIR);
        check_text("file", "content");
    }
}

TEST(fs_links_in_a_circle) {
    EACH_FORM {
        CHECK_EQ(symlink("two", "one"), 0);
        CHECK_EQ(symlink("one", "two"), 0);
        check_all_fail("one/a-XXXXXX", "one/b", EVL_ELOOP);
        CHECK_EQ(FS(open, "one", EVL_FS_O_RDONLY, 0), EVL_ELOOP);
        CHECK_EQ(FS(realpath, "one"), EVL_ELOOP);
        CHECK_EQ(FS(stat, "one"), EVL_ELOOP);
        CHECK_EQ(FS(lstat, "one"), 0);
        CHECK_EQ(FS(chmod, "one", 0600), EVL_ELOOP);
        CHECK_EQ(FS(lchown, "one", (evl_uid_t)-1, (evl_gid_t)-1), 0);
        CHECK_EQ(FS(lutime, "one", 1000, 2000), 0);
    }
}

/* A name has room for 255 bytes, a path for 4095. */
TEST(fs_names_that_are_too_long) {
    static char path[8192];
    EACH_FORM {
        memset(path, 'n', 256);
        memcpy(path + 250, "XXXXXX", 7);
        check_all_fail(path, path, EVL_ENAMETOOLONG);
#if defined(__linux__)
        static const size_t lengths[] = {4096, 4097, 5000, 8190};
        for (size_t i = 0; i < COUNT(lengths); i++) {
            for (size_t n = 0; n + 1 < lengths[i]; n += 2)
                memcpy(path + n, "./", 2);
            memcpy(path + lengths[i] - 6, "XXXXXX", 7);
            check_all_fail(path, path, EVL_ENAMETOOLONG);
        }
#endif
    }
}

#endif

TEST(fs_pointers_that_are_missing) {
    EACH_FORM {
        make_things();
        for (size_t i = 0; i < COUNT(path_calls); i++) {
            const path_call_t *call = &path_calls[i];
            CHECK_EQ(fs_refused(start_call(call, NULL, "new")), EVL_EINVAL);
            CHECK_EQ(call->start(form_loop(), NULL, call->path, "new", how), EVL_EINVAL);
            CHECK_EQ(call->start(NULL, &fs, call->path, "new", never_fs), EVL_EINVAL);
            if (call->new_path != NULL)
                CHECK_EQ(fs_refused(start_call(call, call->path, NULL)), EVL_EINVAL);
        }
        CHECK(!exists("new"));
        os_chdir("..");
    }
}

/* ---- Every call that takes a file ------------------------------------------------------------- */

typedef int (*start_file_fn)(evl_loop_t *, evl_fs_t *, evl_file, evl_fs_cb);

#define START_FILE(call, args)                                                                     \
    static int start_##call(evl_loop_t *l, evl_fs_t *r, evl_file f, evl_fs_cb cb) {                \
        return evl_fs_##call args;                                                                 \
    }

static char room[256];
static evl_buf_t one_buf;
static evl_file source;

START_FILE(close, (l, r, f, cb))
START_FILE(read, (l, r, f, &one_buf, 1, 0, cb))
START_FILE(write, (l, r, f, &one_buf, 1, 0, cb))
START_FILE(sendfile, (l, r, f, source, 0, 4, cb))
START_FILE(fsync, (l, r, f, cb))
START_FILE(fdatasync, (l, r, f, cb))
START_FILE(ftruncate, (l, r, f, 3, cb))
START_FILE(fstat, (l, r, f, cb))
START_FILE(fchmod, (l, r, f, 0600, cb))
START_FILE(futime, (l, r, f, 1000, 2000, cb))
START_FILE(fchown, (l, r, f, (evl_uid_t)-1, (evl_gid_t)-1, cb))

typedef struct {
    const char *name;
    start_file_fn start;
    evl_fs_type type;
    ssize_t result; /* for a file of 7 bytes */
} file_call_t;

static const file_call_t file_calls[] = {
    {"read", start_read, EVL_FS_READ, 7},
    {"write", start_write, EVL_FS_WRITE, 256},
    {"sendfile", start_sendfile, EVL_FS_SENDFILE, 4},
    {"fsync", start_fsync, EVL_FS_FSYNC, 0},
    {"fdatasync", start_fdatasync, EVL_FS_FDATASYNC, 0},
    {"ftruncate", start_ftruncate, EVL_FS_FTRUNCATE, 0},
    {"fstat", start_fstat, EVL_FS_FSTAT, 0},
    {"fchmod", start_fchmod, EVL_FS_FCHMOD, 0},
    {"futime", start_futime, EVL_FS_FUTIME, 0},
    {"close", start_close, EVL_FS_CLOSE, 0},
    {"fchown", start_fchown, EVL_FS_FCHOWN, 0}, /* does nothing on Windows */
};

#if defined(_WIN32)
#define FILE_CALLS (COUNT(file_calls) - 1)
#else
#define FILE_CALLS COUNT(file_calls)
#endif

static ssize_t file_call(const file_call_t *call, evl_file file) {
    fs_begin();
    return fs_end(call->start(form_loop(), &fs, file, how));
}

static void open_source(void) {
    put_text("source", "source");
    source = open_now("source", EVL_FS_O_RDONLY);
    one_buf = buf_of(room, sizeof(room));
}

TEST(fs_calls_with_files_succeed) {
    EACH_FORM {
        open_source();
        for (size_t i = 0; i < COUNT(file_calls); i++) {
            const file_call_t *call = &file_calls[i];
            put_text("file", "content");
            evl_file file = open_now("file", EVL_FS_O_RDWR);
            if (file_call(call, file) != call->result)
                fprintf(stderr, "%s\n", call->name);
            CHECK_EQ(fs.result, call->result);
            CHECK_EQ(fs.fs_type, call->type);
            CHECK_PTR(fs.ptr, call->type == EVL_FS_FSTAT ? &fs.statbuf : NULL);
            if (call->type != EVL_FS_CLOSE)
                close_now(file);
        }
        close_now(source);
    }
}

TEST(fs_files_that_are_none) {
    EACH_FORM {
        open_source();
        evl_file files[3];
        files[0] = -1;
        files[1] = closed_file();
        files[2] = 1 << 20;
        for (size_t i = 0; i < FILE_CALLS; i++)
            for (size_t n = 0; n < COUNT(files); n++) {
                if (file_call(&file_calls[i], files[n]) != EVL_EBADF)
                    fprintf(stderr, "%s of %d\n", file_calls[i].name, files[n]);
                CHECK_EQ(fs.result, EVL_EBADF);
                CHECK_PTR(fs.ptr, NULL);
            }
        evl_file out = open_now("out", EVL_FS_O_WRONLY | EVL_FS_O_CREAT);
        for (size_t n = 0; n < COUNT(files); n++)
            CHECK_EQ(FS(sendfile, out, files[n], 0, 4), EVL_EBADF);
        close_now(out);
        close_now(source);
    }
}

TEST(fs_files_without_a_request_or_a_loop) {
    EACH_FORM {
        open_source();
        for (size_t i = 0; i < COUNT(file_calls); i++) {
            CHECK_EQ(file_calls[i].start(form_loop(), NULL, source, how), EVL_EINVAL);
            CHECK_EQ(file_calls[i].start(NULL, &fs, source, never_fs), EVL_EINVAL);
        }
        close_now(source); /* which none of them has done */
    }
}

/* ---- Requests --------------------------------------------------------------------------------- */

TEST(fs_callback_comes_later_and_once) {
    begin_async();
    put_text("file", "content");
    fs_begin();
    CHECK_EQ(evl_fs_stat(&loop, &fs, "file", on_fs), 0);
    CHECK_EQ(fs.type, EVL_FS);
    CHECK_EQ(evl_req_get_type((evl_req_t *)&fs), EVL_FS);
    CHECK_EQ(fs.fs_type, EVL_FS_STAT);
    CHECK_PTR(fs.loop, &loop);
    CHECK(fs.cb == on_fs);
    CHECK_PTR(fs.data, &fs);
    test_sleep_ms(20);
    CHECK_EQ(calls, 0);
    CHECK_EQ(evl_loop_alive(&loop), 1);
    CHECK_EQ(evl_loop_close(&loop), EVL_EBUSY);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 0);
    CHECK_EQ(calls, 1);
    end_async();
}

TEST(fs_at_once_with_a_loop) {
    begin_async();
    put_text("file", "content");
    fs_begin();
    CHECK_EQ(evl_fs_stat(&loop, &fs, "file", NULL), 0);
    CHECK_EQ(fs.result, 0);
    CHECK_EQ(fs.type, EVL_FS);
    CHECK_EQ(fs.fs_type, EVL_FS_STAT);
    CHECK_PTR(fs.data, &fs);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_EQ(evl_fs_stat(&loop, &fs, "missing", NULL), EVL_ENOENT);
    CHECK_EQ(fs.result, EVL_ENOENT);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    end_async();
}

TEST(fs_size_and_name_of_a_request) {
    CHECK_EQ(evl_req_size(EVL_FS), sizeof(evl_fs_t));
    CHECK_STR(evl_req_type_name(EVL_FS), "fs");
}

TEST(fs_fields_by_function) {
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(FS(stat, "file"), 0);
        CHECK_EQ(evl_fs_get_type(&fs), EVL_FS_STAT);
        CHECK_EQ(evl_fs_get_result(&fs), 0);
        CHECK_PTR(evl_fs_get_ptr(&fs), &fs.statbuf);
        CHECK_PTR(evl_fs_get_statbuf(&fs), &fs.statbuf);
        CHECK_PTR(evl_fs_get_path(&fs), fs.path);
        CHECK_STR(evl_fs_get_path(&fs), "file");
        CHECK_EQ(evl_fs_get_statbuf(&fs)->st_size, 7);
        CHECK_EQ(FS(realpath, "."), 0);
        CHECK_PTR(evl_fs_get_ptr(&fs), fs.ptr);
        CHECK_EQ(FS(rmdir, "missing"), EVL_ENOENT);
        CHECK_EQ(evl_fs_get_result(&fs), EVL_ENOENT);
        CHECK_EQ(evl_fs_get_type(&fs), EVL_FS_RMDIR);
        CHECK_PTR(evl_fs_get_ptr(&fs), NULL);
        CHECK_STR(evl_fs_get_path(&fs), "missing");
#if !defined(_WIN32)
        CHECK_EQ(FS(rmdir, "file"), EVL_ENOTDIR);
        CHECK_EQ(evl_fs_get_system_error(&fs), ENOTDIR);
#endif
    }
}

TEST(fs_cleanup) {
    static char path[2000];
    EACH_FORM {
        evl_fs_t zero;
        memset(&zero, 0, sizeof(zero));
        evl_fs_req_cleanup(&zero);
        evl_fs_req_cleanup(&zero);
        put_text("file", "content");
        memset(path, '/', sizeof(path) - 1);
        path[0] = '.';
        memcpy(path + 1000, "file", 5);
        for (int i = 0; i < 8; i++) {
            path[1000] = i % 2 == 0 ? 'f' : 'F'; /* there, and not */
            long live = test_alloc_live();
            if (i / 2 == 0)
                FS(stat, path);
            else if (i / 2 == 1)
                FS(scandir, i % 2 == 0 ? "." : path, 0);
            else if (i / 2 == 2)
                FS(realpath, path);
            else
                FS(statfs, path);
            for (int n = 0; n < 3; n++) {
                evl_fs_req_cleanup(&fs);
                CHECK_PTR(fs.ptr, NULL);
                CHECK_PTR(fs.path, NULL);
                CHECK_PTR(fs.data, &fs);
                CHECK_LE(test_alloc_live(), live + (i == 0 ? 8 : 0)); /* the pool starts */
            }
        }
    }
}

static int left;

static void stat_again(evl_fs_t *req) {
    CHECK_EQ(req->result, 0);
    CHECK_EQ(req->statbuf.st_size, 7);
    evl_fs_req_cleanup(req);
    if (--left > 0)
        CHECK_EQ(evl_fs_stat(req->loop, req, "file", stat_again), 0);
}

TEST(fs_request_used_again_in_its_callback) {
    begin_async();
    put_text("file", "content");
    left = 1000;
    fs_begin();
    CHECK_EQ(evl_fs_stat(&loop, &fs, "file", stat_again), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(left, 0);
    end_async();
}

static void free_request(evl_fs_t *req) {
    evl_fs_req_cleanup(req);
    free(req);
    left--;
}

TEST(fs_request_freed_in_its_callback) {
    begin_async();
    left = 200;
    for (int i = 0; i < 200; i++) {
        evl_fs_t *req = (evl_fs_t *)malloc(sizeof(*req));
        CHECK(req != NULL);
        if (i % 2 == 0)
            CHECK_EQ(evl_fs_scandir(&loop, req, ".", 0, free_request), 0);
        else
            CHECK_EQ(evl_fs_stat(&loop, req, "missing", free_request), 0);
    }
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(left, 0);
    end_async();
}

static void trace_fs(evl_fs_t *req) {
    trace("f");
    evl_fs_req_cleanup(req);
    CHECK_EQ(evl_queue_microtask(&loop, trace_task, text("m")), 0);
    CHECK_EQ(evl_next_tick(&loop, trace_task, text("t")), 0);
}

static void trace_prepare(evl_prepare_t *prepare) {
    (void)prepare;
    trace("p");
}

static void trace_check(evl_check_t *check) {
    (void)check;
    trace("c");
}

TEST(fs_callbacks_come_in_the_poll_phase_with_ticks_and_microtasks) {
    static evl_fs_t reqs[20];
    evl_prepare_t prepare;
    evl_check_t check;
    int seen = 0;
    begin_async();
    CHECK_EQ(evl_prepare_init(&loop, &prepare), 0);
    CHECK_EQ(evl_prepare_start(&prepare, trace_prepare), 0);
    evl_unref((evl_handle_t *)&prepare);
    CHECK_EQ(evl_check_init(&loop, &check), 0);
    CHECK_EQ(evl_check_start(&check, trace_check), 0);
    evl_unref((evl_handle_t *)&check);
    for (size_t i = 0; i < COUNT(reqs); i++)
        CHECK_EQ(evl_fs_stat(&loop, &reqs[i], ".", trace_fs), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    for (const char *s = trace_text; *s != '\0'; s++)
        if (*s == 'f') {
            seen++;
            CHECK_MEM(s, "ftm", 3);
            CHECK(s > trace_text && s[-1] != 'c');
            CHECK(s[3] == 'f' || s[3] == 'c');
        }
    CHECK_EQ(seen, COUNT(reqs));
    end_async();
}

/* ---- Open and close --------------------------------------------------------------------------- */

TEST(fs_open_flags) {
    EACH_FORM {
        one_buf = buf_of(room, sizeof(room));
        CHECK_EQ(FS(open, "file", EVL_FS_O_RDWR, 0644), EVL_ENOENT);
        CHECK(!exists("file"));
        evl_file file = (evl_file)FS(open, "file", EVL_FS_O_RDWR | EVL_FS_O_CREAT, 0644);
        CHECK_GE(file, 0);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_EQ(os_file_write(file, "content", 7), 7);
        CHECK_EQ(FS(close, file), 0);
        check_text("file", "content");

        CHECK_EQ(FS(open, "file", EVL_FS_O_RDWR | EVL_FS_O_CREAT | EVL_FS_O_EXCL, 0644),
                 EVL_EEXIST);
        file = (evl_file)FS(open, "other", EVL_FS_O_RDWR | EVL_FS_O_CREAT | EVL_FS_O_EXCL, 0644);
        CHECK_GE(file, 0);
        CHECK_EQ(FS(close, file), 0);

        file = (evl_file)FS(open, "file", EVL_FS_O_RDWR | EVL_FS_O_CREAT, 0644);
        CHECK_EQ(FS(close, file), 0);
        check_text("file", "content"); /* it was there, and stays */

        file = (evl_file)FS(open, "file", EVL_FS_O_WRONLY, 0);
        CHECK_GE(file, 0);
        CHECK_LT(FS(read, file, &one_buf, 1, 0), 0);
        CHECK_EQ(os_file_write(file, "C", 1), 1);
        CHECK_EQ(FS(close, file), 0);
        check_text("file", "Content");

        file = (evl_file)FS(open, "file", EVL_FS_O_RDONLY, 0);
        CHECK_GE(file, 0);
        CHECK_LT(FS(write, file, &one_buf, 1, 0), 0);
        CHECK_EQ(FS(close, file), 0);
        check_text("file", "Content");

        file = (evl_file)FS(open, "file", EVL_FS_O_WRONLY | EVL_FS_O_APPEND, 0);
        CHECK_GE(file, 0);
        evl_buf_t more = buf_of("++", 2);
        CHECK_EQ(FS(write, file, &more, 1, -1), 2);
        seek_to(file, 0);
        CHECK_EQ(FS(write, file, &more, 1, -1), 2);
        CHECK_EQ(FS(close, file), 0);
        check_text("file", "Content++++");

        file = (evl_file)FS(open, "file", EVL_FS_O_WRONLY | EVL_FS_O_TRUNC, 0);
        CHECK_GE(file, 0);
        CHECK_EQ(FS(close, file), 0);
        check_text("file", "");

        file = (evl_file)FS(open, "file",
                            EVL_FS_O_WRONLY | EVL_FS_O_SYNC | EVL_FS_O_DSYNC | EVL_FS_O_RANDOM, 0);
        CHECK_GE(file, 0);
        CHECK_EQ(FS(close, file), 0);
    }
}

TEST(fs_open_of_a_directory) {
    EACH_FORM {
        CHECK_EQ(FS(open, ".", EVL_FS_O_WRONLY, 0), EVL_EISDIR);
        CHECK_EQ(FS(open, ".", EVL_FS_O_RDWR, 0), EVL_EISDIR);
        evl_file file = (evl_file)FS(open, ".", EVL_FS_O_RDONLY | EVL_FS_O_DIRECTORY, 0);
        CHECK_GE(file, 0);
        CHECK_EQ(FS(fstat, file), 0);
        CHECK_EQ(fs.statbuf.st_mode & S_IFMT, S_IFDIR);
#if !defined(_WIN32)
        one_buf = buf_of(room, sizeof(room));
        CHECK_EQ(FS(read, file, &one_buf, 1, -1), EVL_EISDIR);
        CHECK_EQ(FS(read, file, &one_buf, 1, 0), EVL_EISDIR);
        put_text("file", "");
        CHECK_EQ(FS(open, "file", EVL_FS_O_RDONLY | EVL_FS_O_DIRECTORY, 0), EVL_ENOTDIR);
#endif
        CHECK_EQ(FS(close, file), 0);
    }
}

/* Programs that this one starts do not get what it has open. */
TEST(fs_open_is_not_inherited) {
    EACH_FORM {
        evl_file file = (evl_file)FS(open, "file", EVL_FS_O_RDWR | EVL_FS_O_CREAT, 0644);
        os_check_file_flags(file, 0);
        CHECK_EQ(FS(close, file), 0);
        file = (evl_file)FS(mkstemp, "temp-XXXXXX");
        os_check_file_flags(file, 0);
        CHECK_EQ(FS(close, file), 0);
        evl_dirent_t entry;
        CHECK_EQ(FS(opendir, "."), 0);
        evl_dir_t *dir = (evl_dir_t *)fs.ptr;
        dir->dirents = &entry;
        dir->nentries = 1;
        int inherited = os_inheritable();
        CHECK_EQ(FS(readdir, dir), 1);
        CHECK_EQ(os_inheritable(), inherited);
        CHECK_EQ(FS(closedir, dir), 0);
        CHECK_EQ(os_inheritable(), inherited);
    }
}

TEST(fs_close_twice) {
    EACH_FORM {
        evl_file file = open_now("file", EVL_FS_O_RDWR | EVL_FS_O_CREAT);
        CHECK_EQ(FS(close, file), 0);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_EQ(FS(close, file), EVL_EBADF);
    }
}

#if !defined(_WIN32)

TEST(fs_open_mode_and_mask) {
    EACH_FORM {
        umask(027);
        evl_file file = (evl_file)FS(open, "file", EVL_FS_O_RDWR | EVL_FS_O_CREAT, 0767);
        CHECK_GE(file, 0);
        close_now(file);
        CHECK_EQ(status_of("file").st_mode & 07777, 0740);
        file = (evl_file)FS(open, "read-only", EVL_FS_O_RDWR | EVL_FS_O_CREAT, 0400);
        CHECK_GE(file, 0); /* the mode is for those who come later */
        CHECK_EQ(os_file_write(file, "x", 1), 1);
        close_now(file);
        CHECK_EQ(status_of("read-only").st_mode & 07777, 0400);
        umask(022);
    }
}

TEST(fs_open_of_links) {
    EACH_FORM {
        CHECK_EQ(symlink("file", "link"), 0);
        CHECK_EQ(FS(open, "link", EVL_FS_O_RDONLY, 0), EVL_ENOENT);
        evl_file file = (evl_file)FS(open, "link", EVL_FS_O_WRONLY | EVL_FS_O_CREAT, 0644);
        CHECK_GE(file, 0);
        close_now(file);
        CHECK(exists("file"));
        CHECK_EQ(FS(open, "link", EVL_FS_O_WRONLY | EVL_FS_O_CREAT | EVL_FS_O_EXCL, 0644),
                 EVL_EEXIST);
#if !defined(__FreeBSD__) && !defined(__NetBSD__) /* which have errors of their own for it */
        CHECK_EQ(FS(open, "link", EVL_FS_O_RDONLY | EVL_FS_O_NOFOLLOW, 0), EVL_ELOOP);
#endif
    }
}

TEST(fs_open_of_a_pipe_that_nobody_reads) {
    EACH_FORM {
        CHECK_EQ(mkfifo("pipe", 0600), 0);
        CHECK_EQ(FS(open, "pipe", EVL_FS_O_WRONLY | EVL_FS_O_NONBLOCK, 0), EVL_ENXIO);
    }
}

/* What the test may not do as root. The real user stays, so that all can be removed. */
static void become_nobody(void) {
    CHECK_EQ(chmod(".", 0777), 0);
    if (geteuid() == 0)
        CHECK_EQ(seteuid(65534), 0);
}

static void become_again(void) {
    if (getuid() == 0)
        CHECK_EQ(seteuid(0), 0);
}

TEST(fs_what_is_not_allowed) {
    EACH_FORM {
        FS(stat, "."); /* threads that start now are root as well */
        put_text("file", "content");
        CHECK_EQ(chmod("file", 0), 0);
        CHECK_EQ(mkdir("dir", 0700), 0);
        put_text("dir/inner", "content");
        CHECK_EQ(chmod("dir", 0), 0);
        become_nobody();
        CHECK_EQ(FS(open, "file", EVL_FS_O_RDONLY, 0), EVL_EACCES);
        CHECK_EQ(evl_fs_get_system_error(&fs), EACCES);
        CHECK_EQ(FS(open, "file", EVL_FS_O_WRONLY, 0), EVL_EACCES);
        CHECK_EQ(FS(stat, "file"), 0);
        CHECK_EQ(FS(stat, "dir/inner"), EVL_EACCES);
        CHECK_EQ(FS(realpath, "dir/inner"), EVL_EACCES);
        CHECK_EQ(FS(scandir, "dir", 0), EVL_EACCES);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_EQ(FS(opendir, "dir"), EVL_EACCES);
        CHECK_EQ(FS(mkdir, "dir/new", 0755), EVL_EACCES);
        CHECK_EQ(FS(mkdtemp, "dir/new-XXXXXX"), EVL_EACCES);
        CHECK_EQ(FS(mkstemp, "dir/new-XXXXXX"), EVL_EACCES);
        CHECK_EQ(FS(copyfile, "file", "new", 0), EVL_EACCES);
        CHECK(!exists("new"));
        become_again();
        CHECK_EQ(chmod("dir", 0700), 0);
    }
}

#else

TEST(fs_open_of_a_file_that_goes_with_it) {
    EACH_FORM {
        evl_file file =
            (evl_file)FS(open, "file", EVL_FS_O_RDWR | EVL_FS_O_CREAT | EVL_FS_O_TEMPORARY, 0644);
        CHECK_GE(file, 0);
        CHECK(exists("file"));
        CHECK_EQ(FS(close, file), 0);
        CHECK(!exists("file"));
    }
}

TEST(fs_open_alone) {
    EACH_FORM {
        put_text("file", "content");
        evl_file file = (evl_file)FS(open, "file", EVL_FS_O_RDONLY | EVL_FS_O_EXLOCK, 0);
        CHECK_GE(file, 0);
        CHECK_EQ(FS(open, "file", EVL_FS_O_RDONLY, 0), EVL_EBUSY);
        CHECK_EQ(FS(close, file), 0);
        file = (evl_file)FS(open, "file", EVL_FS_O_RDONLY, 0);
        CHECK_EQ(FS(close, file), 0);
    }
}

TEST(fs_open_file_is_renamed_and_removed) {
    EACH_FORM {
        put_text("file", "content");
        evl_file file = (evl_file)FS(open, "file", EVL_FS_O_RDONLY, 0);
        CHECK_EQ(FS(rename, "file", "other"), 0);
        CHECK_EQ(FS(unlink, "other"), 0);
        CHECK_EQ(FS(close, file), 0);
        CHECK(!exists("other"));
    }
}

#endif

/* ---- Read and write --------------------------------------------------------------------------- */

static evl_file open_empty(void) {
    return open_now("data", EVL_FS_O_RDWR | EVL_FS_O_CREAT | EVL_FS_O_TRUNC);
}

TEST(fs_write_and_read_at_offsets) {
    EACH_FORM {
        evl_buf_t buf = buf_of("abcdef", 6);
        evl_file file = open_empty();
        CHECK_EQ(FS(write, file, &buf, 1, 0), 6);
        CHECK_PTR(fs.ptr, NULL);
        buf = buf_of("XY", 2);
        CHECK_EQ(FS(write, file, &buf, 1, 4), 2);
        CHECK_EQ(FS(write, file, &buf, 1, 9), 2); /* with a hole before it */
        CHECK_EQ(position_of(file), 0);           /* none of them has moved it */
        check_file("data", "abcdXY\0\0\0XY", 11);

        memset(room, '-', sizeof(room));
        buf = evl_buf_init(room, 3);
        CHECK_EQ(FS(read, file, &buf, 1, 2), 3);
        CHECK_MEM(room, "cdX--", 5);
        CHECK_EQ(position_of(file), 0);
        CHECK_EQ(FS(read, file, &buf, 1, -1), 3);
        CHECK_MEM(room, "abc--", 5);
        CHECK_EQ(FS(read, file, &buf, 1, -1), 3); /* from where that has ended */
        CHECK_MEM(room, "dXY--", 5);
        CHECK_EQ(position_of(file), 6);
        CHECK_EQ(FS(read, file, &buf, 1, 0), 3);
        CHECK_MEM(room, "abc--", 5);
        CHECK_EQ(position_of(file), 6);
        buf = buf_of("Z", 1);
        CHECK_EQ(FS(write, file, &buf, 1, -1), 1);
        CHECK_EQ(position_of(file), 7);
        check_file("data", "abcdXYZ\0\0XY", 11);
        close_now(file);
    }
}

TEST(fs_read_at_the_end) {
    EACH_FORM {
        put_text("data", "content");
        evl_file file = open_now("data", EVL_FS_O_RDONLY);
        memset(room, '-', sizeof(room));
        one_buf = evl_buf_init(room, 100);
        CHECK_EQ(FS(read, file, &one_buf, 1, 4), 3); /* what there is */
        CHECK_MEM(room, "ent--", 5);
        CHECK_EQ(FS(read, file, &one_buf, 1, 7), 0);
        CHECK_EQ(FS(read, file, &one_buf, 1, 8), 0);
        CHECK_EQ(FS(read, file, &one_buf, 1, INT64_C(1) << 40), 0);
        CHECK_EQ(FS(read, file, &one_buf, 1, -1), 7);
        CHECK_EQ(FS(read, file, &one_buf, 1, -1), 0);
        CHECK_EQ(FS(read, file, &one_buf, 1, -1), 0);
        evl_buf_t bufs[3];
        memset(room, '-', sizeof(room));
        bufs[0] = evl_buf_init(room, 2);
        bufs[1] = evl_buf_init(room + 10, 4);
        bufs[2] = evl_buf_init(room + 20, 5);
        CHECK_EQ(FS(read, file, bufs, 3, 3), 4); /* the second is not filled, the third untouched */
        CHECK_MEM(room, "te--------nt------------------", 30);
        CHECK_EQ(FS(read, file, bufs, 3, 7), 0);
        close_now(file);
        put_text("data", "");
        file = open_now("data", EVL_FS_O_RDONLY);
        CHECK_EQ(FS(read, file, &one_buf, 1, 0), 0);
        CHECK_EQ(FS(read, file, &one_buf, 1, -1), 0);
        close_now(file);
    }
}

TEST(fs_buffers_of_no_length) {
    EACH_FORM {
        evl_buf_t bufs[6];
        evl_file file = open_empty();
        bufs[0] = evl_buf_init(NULL, 0);
        bufs[1] = bufs[0];
        CHECK_EQ(FS(write, file, bufs, 1, 0), 0);
        CHECK_EQ(FS(write, file, bufs, 2, -1), 0);
        bufs[2] = buf_of("ab", 2);
        bufs[3] = evl_buf_init(room, 0);
        bufs[4] = buf_of("cd", 2);
        bufs[5] = bufs[0];
        CHECK_EQ(FS(write, file, bufs, 6, 0), 4);
        CHECK_EQ(FS(write, file, bufs, 6, -1), 4);
        check_text("data", "abcd");
        memset(room, '-', sizeof(room));
        bufs[2] = evl_buf_init(room, 1);
        bufs[4] = evl_buf_init(room + 4, 3);
        CHECK_EQ(FS(read, file, bufs, 6, 0), 4);
        CHECK_MEM(room, "a---bcd-", 8);
        CHECK_EQ(FS(read, file, bufs, 2, 0), 0);
        close_now(file);
    }
}

/* So many at once that no single call of the system takes them. */
static void check_buffers(unsigned count, int64_t offset) {
    static evl_buf_t bufs[4096];
    static char bytes[4096 * 4];
    static char found[4096 * 4];
    size_t total = 0, done = 0, lead = offset > 0 ? (size_t)offset : 0;
    evl_file file = open_empty();
    for (unsigned i = 0; i < count; i++)
        total += 1 + i % 4;
    pattern(bytes, total, count);
    for (unsigned i = 0; i < count; i++) {
        bufs[i] = evl_buf_init(bytes + done, 1 + i % 4);
        done += 1 + i % 4;
    }
    CHECK_EQ(FS(write, file, bufs, count, offset), total);
    CHECK_EQ(position_of(file), offset < 0 ? total : 0);
    CHECK_EQ(status_of("data").st_size, total + lead);
    seek_to(file, 0);
    done = 0;
    memset(found, '-', sizeof(found));
    for (unsigned i = 0; i < count; i++) {
        bufs[i] = evl_buf_init(found + done, 1 + i % 4);
        done += 1 + i % 4;
    }
    /* of a read it may be less, but not nothing */
    ssize_t got = FS(read, file, bufs, count, offset);
    CHECK_GE(got, count < 1024 ? total : 1024);
    CHECK_LE(got, total);
    CHECK_MEM(found, bytes, got);
    for (size_t i = (size_t)got; i < total; i++)
        CHECK_EQ(found[i], '-');
    CHECK_EQ(position_of(file), offset < 0 ? got : 0);
    close_now(file);
    check_file("data", bytes, lead == 0 ? total : 0);
}

static void check_buffers_everywhere(unsigned count) {
    check_buffers(count, 0);
    check_buffers(count, -1);
}

TEST(fs_few_buffers) {
    EACH_FORM {
        for (unsigned count = 1; count < 20; count++)
            check_buffers_everywhere(count);
    }
}

TEST(fs_many_buffers) {
    EACH_FORM {
        check_buffers_everywhere(1023);
        check_buffers_everywhere(1024);
        check_buffers_everywhere(1025);
        check_buffers_everywhere(2048);
        check_buffers_everywhere(3000);
        check_buffers_everywhere(4096);
    }
}

/* Nothing is written by the first call of the system; that is no reason to stop. */
TEST(fs_write_of_many_empty_buffers_and_a_full_one) {
    static evl_buf_t bufs[1025];
    EACH_FORM {
        evl_file file = open_empty();
        for (int i = 0; i < 1024; i++)
            bufs[i] = evl_buf_init(room, 0);
        bufs[1024] = buf_of("content", 7);
        CHECK_EQ(FS(write, file, bufs, 1025, 0), 7);
        check_text("data", "content");
        CHECK_EQ(FS(write, file, bufs, 1025, -1), 7);
        CHECK_EQ(position_of(file), 7);
        memset(room, '-', sizeof(room));
        bufs[1024] = evl_buf_init(room, 7);
        CHECK_EQ(FS(read, file, bufs, 1025, 0), 7); /* 0 would be the end of the file */
        CHECK_MEM(room, "content-", 8);
        close_now(file);
    }
}

/* The array is copied; what it leads to is used. */
TEST(fs_buffer_arrays_need_not_outlive_the_call) {
    static const unsigned counts[] = {1, 3, 4, 5, 8, 100, 1030, 3000};
    static evl_buf_t bufs[3000];
    static char bytes[3000], found[3000];
    begin_async();
    pattern(bytes, sizeof(bytes), 0);
    for (size_t n = 0; n < COUNT(counts); n++) {
        evl_file file = open_empty();
        unsigned count = counts[n];
        for (unsigned i = 0; i < count; i++)
            bufs[i] = evl_buf_init(bytes + i, 1);
        fs_begin();
        int result = evl_fs_write(&loop, &fs, file, bufs, count, 0, on_fs);
        memset(bufs, 0, sizeof(bufs));
        CHECK_EQ(fs_end(result), count);
        memset(found, '-', sizeof(found));
        for (unsigned i = 0; i < count; i++)
            bufs[i] = evl_buf_init(found + i, 1);
        fs_begin();
        result = evl_fs_read(&loop, &fs, file, bufs, count, 0, on_fs);
        memset(bufs, 0, sizeof(bufs));
        ssize_t got = fs_end(result);
        CHECK_GE(got, count < 1024 ? count : 1024);
        CHECK_MEM(found, bytes, got);
        close_now(file);
    }
    end_async();
}

TEST(fs_read_and_write_without_buffers) {
    EACH_FORM {
        evl_file file = open_empty();
        evl_buf_t buf = buf_of("x", 1);
        CHECK_EQ(REFUSED(read, file, NULL, 1, 0), EVL_EINVAL);
        CHECK_EQ(REFUSED(write, file, NULL, 1, 0), EVL_EINVAL);
        CHECK_EQ(REFUSED(read, file, &buf, 0, 0), EVL_EINVAL);
        CHECK_EQ(REFUSED(write, file, &buf, 0, 0), EVL_EINVAL);
        CHECK_EQ(REFUSED(write, file, NULL, 0, -1), EVL_EINVAL);
        CHECK_EQ(status_of("data").st_size, 0);
        close_now(file);
    }
}

TEST(fs_large_read_and_write) {
    enum { SIZE = 5 * 1000 * 1000 + 17 };
    char *bytes = (char *)malloc(SIZE), *found = (char *)malloc(SIZE);
    CHECK(bytes != NULL && found != NULL);
    pattern(bytes, SIZE, 1);
    EACH_FORM {
        evl_file file = open_empty();
        evl_buf_t bufs[2];
        bufs[0] = evl_buf_init(bytes, 3000000);
        bufs[1] = evl_buf_init(bytes + 3000000, SIZE - 3000000);
        CHECK_EQ(FS(write, file, bufs, 2, 0), SIZE);
        memset(found, 0, SIZE);
        bufs[0] = evl_buf_init(found, 1000001);
        bufs[1] = evl_buf_init(found + 1000001, SIZE - 1000001);
        CHECK_EQ(FS(read, file, bufs, 2, 0), SIZE);
        CHECK_MEM(found, bytes, SIZE);
        close_now(file);
    }
    free(bytes);
    free(found);
}

TEST(fs_read_and_write_on_pipes) {
    EACH_FORM {
        evl_file ends[2];
        evl_buf_t bufs[3];
        os_pipe(ends);
        bufs[0] = buf_of("one ", 4);
        bufs[1] = buf_of("", 0);
        bufs[2] = buf_of("two", 3);
        CHECK_EQ(FS(write, ends[1], bufs, 3, -1), 7);
        memset(room, '-', sizeof(room));
        bufs[0] = evl_buf_init(room, 3);
        CHECK_EQ(FS(read, ends[0], bufs, 1, -1), 3);
        CHECK_MEM(room, "one-", 4);
        bufs[0] = evl_buf_init(room, 100); /* what is there does, be it less */
        CHECK_EQ(FS(read, ends[0], bufs, 1, -1), 4);
        CHECK_MEM(room, " two-", 5);
#if !defined(_WIN32)
        CHECK_EQ(FS(read, ends[0], bufs, 1, 0), EVL_ESPIPE);
        CHECK_EQ(FS(write, ends[1], bufs, 1, 0), EVL_ESPIPE);
        os_nonblock(ends[0]);
        CHECK_EQ(FS(read, ends[0], bufs, 1, -1), EVL_EAGAIN);
        CHECK_EQ(FS(fsync, ends[0]), EVL_EINVAL);
        CHECK_EQ(FS(ftruncate, ends[0], 0), EVL_EINVAL);
#endif
        close_now(ends[1]);
        CHECK_EQ(FS(read, ends[0], bufs, 1, -1), 0);
        close_now(ends[0]);
    }
}

#if !defined(_WIN32)

TEST(fs_write_to_a_pipe_that_nobody_reads) {
    EACH_FORM {
        evl_file ends[2];
        evl_buf_t buf = buf_of("x", 1);
        os_pipe(ends);
        close_now(ends[0]);
        signal(SIGPIPE, SIG_IGN);
        CHECK_EQ(FS(write, ends[1], &buf, 1, -1), EVL_EPIPE);
        signal(SIGPIPE, SIG_DFL);
        close_now(ends[1]);
    }
}

/* A write comes back early only for an error: here the pipe is full, then nobody is left. */
TEST(fs_write_that_is_cut_short_by_an_error) {
    static char many[300000];
    EACH_FORM {
        evl_file ends[2];
        evl_buf_t buf = evl_buf_init(many, sizeof(many));
        os_pipe(ends);
        os_nonblock(ends[1]);
        ssize_t written = FS(write, ends[1], &buf, 1, -1);
        CHECK_GT(written, 0);
        CHECK_LT(written, sizeof(many));
        CHECK_EQ(FS(write, ends[1], &buf, 1, -1), EVL_EAGAIN);
        ssize_t got = 0;
        os_nonblock(ends[0]);
        for (long n; (n = os_file_read(ends[0], many, sizeof(many))) > 0;)
            got += n;
        CHECK_EQ(got, written);
        close_now(ends[0]);
        close_now(ends[1]);
    }
}

TEST(fs_offsets_beyond_4_gib) {
    EACH_FORM {
        const int64_t far = (INT64_C(5) << 30) + 3;
        evl_buf_t buf = buf_of("far", 3);
        evl_file file = open_empty();
        ssize_t result = FS(write, file, &buf, 1, far);
        if (result == EVL_EFBIG || result == EVL_EINVAL)
            SKIP("the file system has no files so large");
        CHECK_EQ(result, 3);
        CHECK_EQ(FS(fstat, file), 0);
        CHECK_EQ(fs.statbuf.st_size, (uint64_t)far + 3);
        CHECK_EQ(FS(stat, "data"), 0);
        CHECK_EQ(fs.statbuf.st_size, (uint64_t)far + 3);
        memset(room, '-', sizeof(room));
        buf = evl_buf_init(room, 10);
        CHECK_EQ(FS(read, file, &buf, 1, far - 2), 5);
        CHECK_MEM(room, "\0\0far-", 6);
        CHECK_EQ(FS(read, file, &buf, 1, far - (INT64_C(1) << 32)), 10); /* not there */
        CHECK_MEM(room, "\0\0\0\0\0\0\0\0\0\0", 10);
        CHECK_EQ(FS(ftruncate, file, far + 1), 0);
        CHECK_EQ(FS(read, file, &buf, 1, far), 1);
        evl_file out = open_now("out", EVL_FS_O_RDWR | EVL_FS_O_CREAT);
        CHECK_EQ(FS(sendfile, out, file, far - 1, 100), 2);
        check_file("out", "\0f", 2);
        close_now(out);
        close_now(file);
    }
}

#endif

/* ---- Sizes and disks -------------------------------------------------------------------------- */

TEST(fs_ftruncate) {
    EACH_FORM {
        put_text("data", "content");
        evl_file file = open_now("data", EVL_FS_O_RDWR);
        seek_to(file, 5);
        CHECK_EQ(FS(ftruncate, file, 4), 0);
        check_text("data", "cont");
        CHECK_EQ(FS(ftruncate, file, 8), 0);
        check_file("data", "cont\0\0\0\0", 8);
        CHECK_EQ(FS(ftruncate, file, 8), 0);
        CHECK_EQ(position_of(file), 5);
        CHECK_EQ(FS(ftruncate, file, 0), 0);
        check_text("data", "");
        CHECK_EQ(FS(ftruncate, file, -1), EVL_EINVAL);
        close_now(file);
        file = open_now("data", EVL_FS_O_RDONLY);
        CHECK_LT(FS(ftruncate, file, 4), 0);
        close_now(file);
        check_text("data", "");
    }
}

TEST(fs_fsync_and_fdatasync) {
    EACH_FORM {
        evl_file file = open_empty();
        CHECK_EQ(os_file_write(file, "content", 7), 7);
        CHECK_EQ(FS(fsync, file), 0);
        CHECK_EQ(fs.fs_type, EVL_FS_FSYNC);
        CHECK_EQ(FS(fdatasync, file), 0);
        CHECK_EQ(fs.fs_type, EVL_FS_FDATASYNC);
        close_now(file);
        check_text("data", "content");
    }
}

TEST(fs_statfs) {
    EACH_FORM {
        put_text("file", "");
        CHECK_EQ(FS(statfs, "file"), 0);
        evl_statfs_t *found = (evl_statfs_t *)fs.ptr;
        CHECK(found != NULL && (void *)found != (void *)&fs.statbuf);
        CHECK_GT(found->f_bsize, 0);
        CHECK_GT(found->f_blocks, 0);
        CHECK_LE(found->f_bfree, found->f_blocks);
        CHECK_LE(found->f_bavail, found->f_bfree);
        CHECK_LE(found->f_ffree, found->f_files);
        CHECK_EQ(found->f_spare[0] | found->f_spare[1] | found->f_spare[2], 0);
#if defined(__linux__)
        CHECK_GT(found->f_type, 0);
        CHECK_GT(found->f_frsize, 0);
#endif
        CHECK_EQ(FS(statfs, "missing"), EVL_ENOENT);
        CHECK_PTR(fs.ptr, NULL);
    }
}

/* ---- Sendfile --------------------------------------------------------------------------------- */

static evl_file create(const char *path) {
    return open_now(path, EVL_FS_O_RDWR | EVL_FS_O_CREAT | EVL_FS_O_TRUNC);
}

TEST(fs_sendfile_from_file_to_file) {
    EACH_FORM {
        put_text("source", "0123456789");
        evl_file in = open_now("source", EVL_FS_O_RDONLY), out = create("out");
        CHECK_EQ(FS(sendfile, out, in, 2, 3), 3);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_EQ(fs.fs_type, EVL_FS_SENDFILE);
        check_text("out", "234");
        CHECK_EQ(position_of(in), 0);
        CHECK_EQ(position_of(out), 3);
        CHECK_EQ(FS(sendfile, out, in, 0, 2), 2);
        check_text("out", "23401");
        CHECK_EQ(FS(sendfile, out, in, -1, 4), 4); /* where the file is */
        check_text("out", "234010123");
        CHECK_EQ(position_of(in), 4);
        CHECK_EQ(FS(sendfile, out, in, -1, 100), 6);
        CHECK_EQ(position_of(in), 10);
        CHECK_EQ(FS(sendfile, out, in, -1, 100), 0);
        CHECK_EQ(FS(sendfile, out, in, 8, 100), 2);
        CHECK_EQ(FS(sendfile, out, in, 10, 100), 0);
        CHECK_EQ(FS(sendfile, out, in, 11, 100), 0);
        CHECK_EQ(FS(sendfile, out, in, 0, 0), 0);
        check_text("out", "23401012345678989");
        close_now(in);
        CHECK_LT(FS(sendfile, out, out, -1, 0), 1);
        close_now(out);
    }
}

TEST(fs_sendfile_of_much) {
    enum { SIZE = 1000003 };
    char *bytes = (char *)malloc(SIZE);
    CHECK(bytes != NULL);
    pattern(bytes, SIZE, 7);
    EACH_FORM {
        put("source", bytes, SIZE);
        evl_file in = open_now("source", EVL_FS_O_RDONLY), out = create("out");
        size_t done = 0;
        while (done < SIZE) {
            ssize_t part = FS(sendfile, out, in, (int64_t)done, SIZE - done);
            CHECK_GT(part, 0);
            done += (size_t)part;
        }
        CHECK_EQ(done, SIZE);
        check_file("out", bytes, SIZE);
        CHECK_EQ(FS(sendfile, out, in, -1, 1 << 20), SIZE); /* more than there is */
        CHECK_EQ(position_of(in), SIZE);
        CHECK_EQ(status_of("out").st_size, 2 * SIZE);
        close_now(in);
        close_now(out);
    }
    free(bytes);
}

/* To which the system's own call does not copy. */
TEST(fs_sendfile_to_a_file_that_is_appended_to) {
    EACH_FORM {
        put_text("source", "0123456789");
        put_text("out", "before ");
        evl_file in = open_now("source", EVL_FS_O_RDONLY);
        evl_file out = open_now("out", EVL_FS_O_WRONLY | EVL_FS_O_APPEND);
        CHECK_EQ(FS(sendfile, out, in, 3, 4), 4);
        check_text("out", "before 3456");
        CHECK_EQ(position_of(in), 0);
        CHECK_EQ(FS(sendfile, out, in, -1, 2), 2);
        check_text("out", "before 345601");
        CHECK_EQ(position_of(in), 2);
        close_now(in);
        close_now(out);
    }
}

TEST(fs_sendfile_of_the_wrong_kind) {
    EACH_FORM {
        put_text("source", "0123456789");
        evl_file in = open_now("source", EVL_FS_O_RDONLY), dir = open_now(".", EVL_FS_O_RDONLY);
        CHECK_EQ(FS(sendfile, in, in, 0, 4), EVL_EBADF); /* not open to write */
        CHECK_LT(FS(sendfile, in, dir, 0, 4), 0);
        check_text("source", "0123456789");
        close_now(in);
        close_now(dir);
    }
}

#if !defined(_WIN32)

TEST(fs_sendfile_to_a_socket) {
    EACH_FORM {
        evl_os_sock_t sockets[2];
        put_text("source", "0123456789");
        evl_file in = open_now("source", EVL_FS_O_RDONLY);
        os_socketpair(sockets);
        CHECK_EQ(FS(sendfile, sockets[0], in, 4, 3), 3);
        CHECK_EQ(position_of(in), 0);
        CHECK_EQ(FS(sendfile, sockets[0], in, -1, 2), 2);
        CHECK_EQ(position_of(in), 2);
        CHECK_EQ(os_recv(sockets[1], room, sizeof(room)), 5);
        CHECK_MEM(room, "45601", 5);
        close_now(in);
        os_close(sockets[0]);
        os_close(sockets[1]);
    }
}

TEST(fs_sendfile_to_a_socket_that_is_full) {
    enum { SIZE = 3000000 };
    char *bytes = (char *)malloc(SIZE), *found = (char *)malloc(SIZE);
    CHECK(bytes != NULL && found != NULL);
    pattern(bytes, SIZE, 3);
    EACH_FORM {
        evl_os_sock_t sockets[2];
        size_t sent = 0, got = 0;
        put("source", bytes, SIZE);
        evl_file in = open_now("source", EVL_FS_O_RDONLY);
        os_socketpair(sockets);
        os_nonblock(sockets[0]);
        os_nonblock(sockets[1]);
        int full = 0;
        while (sent < SIZE) {
            ssize_t part = FS(sendfile, sockets[0], in, (int64_t)sent, SIZE - sent);
            if (part == EVL_EAGAIN) {
                full++;
                for (long n; (n = os_recv(sockets[1], found + got, SIZE - got)) > 0;)
                    got += (size_t)n;
                CHECK_EQ(got, sent);
            } else {
                CHECK_GT(part, 0);
                sent += (size_t)part;
            }
        }
        for (long n; got < SIZE && (n = os_recv(sockets[1], found + got, SIZE - got)) > 0;)
            got += (size_t)n;
        CHECK_EQ(got, SIZE);
        CHECK_GT(full, 0);
        CHECK_MEM(found, bytes, SIZE);
        close_now(in);
        os_close(sockets[0]);
        os_close(sockets[1]);
    }
    free(bytes);
    free(found);
}

#endif

#endif /* !EVLOOP_NO_FS */
