/* Files: every call of evl_fs_*, at once and on a loop, what it does and how it fails. */
#include "trace.h"

#if !defined(EVLOOP_NO_FS)

#include <sys/stat.h>
#include <time.h>
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

/* Ends the test as skipped, and takes its directory along. */
static void skip_files(const char *reason) {
    leave_scratch();
    SKIP(reason);
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
#if defined(_WIN32) /* where each file takes its time */
    static const size_t lengths[] = {0, 63, 65, 4000};
#else
    static const size_t lengths[] = {0, 20, 31, 62, 63, 64, 65, 100, 1000, 4000};
#endif
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
            for (size_t n = 0; n < PATH_CALLS; n++)
                if (path_calls[n].type != EVL_FS_REALPATH) /* the C library looks at the names */
                    CHECK_EQ(path_call(&path_calls[n], path, path), EVL_ENAMETOOLONG);
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

TEST(fs_callbacks_come_in_the_poll_phase_with_ticks_and_microtasks) {
    static evl_fs_t reqs[20];
    evl_prepare_t prepare;
    evl_check_t check;
    int seen = 0;
    begin_async();
    trace_polls(&loop, &prepare, &check);
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
        static const int flags[] = {EVL_FS_O_WRONLY, EVL_FS_O_RDWR};
        for (size_t i = 0; i < COUNT(flags); i++) {
            ssize_t result = FS(open, ".", flags[i], 0);
#if defined(_WIN32)
            if (result >= 0) { /* where that may be, it is of no use */
                one_buf = buf_of("x", 1);
                CHECK_LT(FS(write, (evl_file)result, &one_buf, 1, 0), 0);
                close_now((evl_file)result);
                continue;
            }
#endif
            CHECK_EQ(result, EVL_EISDIR);
        }
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
        /* The C library of a thread that is starting may open a file for a moment: it gets the first. */
        evl_file first = open_now("first", EVL_FS_O_RDWR | EVL_FS_O_CREAT);
        evl_file file = open_now("file", EVL_FS_O_RDWR | EVL_FS_O_CREAT);
        close_now(first);
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
        CHECK_EQ(FS(read, closed_file(), bufs, 2, 0), EVL_EBADF);
        CHECK_EQ(FS(write, closed_file(), bufs, 2, 0), EVL_EBADF);
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
    enum { BYTES = 5 * 1000 * 1000 + 17 };
    char *bytes = (char *)malloc(BYTES), *found = (char *)malloc(BYTES);
    CHECK(bytes != NULL && found != NULL);
    pattern(bytes, BYTES, 1);
    EACH_FORM {
        evl_file file = open_empty();
        evl_buf_t bufs[2];
        bufs[0] = evl_buf_init(bytes, 3000000);
        bufs[1] = evl_buf_init(bytes + 3000000, BYTES - 3000000);
        CHECK_EQ(FS(write, file, bufs, 2, 0), BYTES);
        memset(found, 0, BYTES);
        bufs[0] = evl_buf_init(found, 1000001);
        bufs[1] = evl_buf_init(found + 1000001, BYTES - 1000001);
        CHECK_EQ(FS(read, file, bufs, 2, 0), BYTES);
        CHECK_MEM(found, bytes, BYTES);
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
        CHECK_EQ(os_file_write(ends[1], "xyz", 3), 3);
        bufs[0] = evl_buf_init(room, 3); /* full, but what would fill the next may never come */
        bufs[1] = evl_buf_init(room + 3, 10);
        CHECK_EQ(FS(read, ends[0], bufs, 2, -1), 3);
        CHECK_MEM(room, "xyz", 3);
#if !defined(_WIN32)
        CHECK_EQ(FS(read, ends[0], bufs, 1, 0), EVL_ESPIPE);
        CHECK_EQ(FS(write, ends[1], bufs, 1, 0), EVL_ESPIPE);
        os_nonblock(ends[0]);
        CHECK_EQ(FS(read, ends[0], bufs, 1, -1), EVL_EAGAIN);
        CHECK_EQ(FS(fsync, ends[0]), EVL_EINVAL);
        CHECK_EQ(FS(ftruncate, ends[0], 0), EVL_EINVAL);
#endif
        close_now(ends[1]);
        CHECK_EQ(FS(read, ends[0], bufs, 2, -1), 0);
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
            skip_files("the file system has no files so large");
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
    enum { BYTES = 1000003 };
    char *bytes = (char *)malloc(BYTES);
    CHECK(bytes != NULL);
    pattern(bytes, BYTES, 7);
    EACH_FORM {
        put("source", bytes, BYTES);
        evl_file in = open_now("source", EVL_FS_O_RDONLY), out = create("out");
        size_t done = 0;
        while (done < BYTES) {
            ssize_t part = FS(sendfile, out, in, (int64_t)done, BYTES - done);
            CHECK_GT(part, 0);
            done += (size_t)part;
        }
        CHECK_EQ(done, BYTES);
        check_file("out", bytes, BYTES);
        CHECK_EQ(FS(sendfile, out, in, -1, 1 << 20), BYTES); /* more than there is */
        CHECK_EQ(position_of(in), BYTES);
        CHECK_EQ(status_of("out").st_size, 2 * BYTES);
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
    enum { BYTES = 3000000 };
    char *bytes = (char *)malloc(BYTES), *found = (char *)malloc(BYTES);
    CHECK(bytes != NULL && found != NULL);
    pattern(bytes, BYTES, 3);
    EACH_FORM {
        evl_os_sock_t sockets[2];
        size_t sent = 0, got = 0;
        put("source", bytes, BYTES);
        evl_file in = open_now("source", EVL_FS_O_RDONLY);
        os_socketpair(sockets);
        os_nonblock(sockets[0]);
        os_nonblock(sockets[1]);
        int full = 0;
        while (sent < BYTES) {
            ssize_t part = FS(sendfile, sockets[0], in, (int64_t)sent, BYTES - sent);
            if (part == EVL_EAGAIN) {
                full++;
                for (long n; (n = os_recv(sockets[1], found + got, BYTES - got)) > 0;)
                    got += (size_t)n;
                CHECK_EQ(got, sent);
            } else {
                CHECK_GT(part, 0);
                sent += (size_t)part;
            }
        }
        for (long n; got < BYTES && (n = os_recv(sockets[1], found + got, BYTES - got)) > 0;)
            got += (size_t)n;
        CHECK_EQ(got, BYTES);
        CHECK_GT(full, 0);
        CHECK_MEM(found, bytes, BYTES);
        close_now(in);
        os_close(sockets[0]);
        os_close(sockets[1]);
    }
    free(bytes);
    free(found);
}

#endif

/* ---- Copyfile --------------------------------------------------------------------------------- */

TEST(fs_copyfile) {
    EACH_FORM {
        put_text("source", "content");
        CHECK_EQ(FS(copyfile, "source", "copy", 0), 0);
        CHECK_EQ(fs.result, 0);
        CHECK_PTR(fs.ptr, NULL);
        check_text("copy", "content");
        check_text("source", "content");
        put_text("source", "new");
        check_text("copy", "content"); /* it is no link */
        CHECK_EQ(FS(copyfile, "source", "copy", 0), 0);
        check_text("copy", "new"); /* nothing is left of the longer one */
        CHECK_EQ(FS(copyfile, "source", "copy", EVL_FS_COPYFILE_EXCL), EVL_EEXIST);
        check_text("copy", "new");
        CHECK_EQ(FS(copyfile, "source", "fresh", EVL_FS_COPYFILE_EXCL), 0);
        check_text("fresh", "new");
        put_text("source", "");
        CHECK_EQ(FS(copyfile, "source", "empty", 0), 0);
        check_text("empty", "");
        CHECK_EQ(FS(copyfile, "source", "copy", 0), 0);
        check_text("copy", "");
    }
}

TEST(fs_copyfile_onto_itself) {
    EACH_FORM {
        put_text("source", "content");
        FS(copyfile, "source", "source", 0);
        check_text("source", "content");
        FS(copyfile, "source", "./source", EVL_FS_COPYFILE_FICLONE);
        check_text("source", "content");
        CHECK_EQ(FS(copyfile, "source", "source", EVL_FS_COPYFILE_EXCL), EVL_EEXIST);
        check_text("source", "content");
        FS(copyfile, "source", "source", EVL_FS_COPYFILE_FICLONE_FORCE);
        check_text("source", "content");
        CHECK_EQ(NOW(link, "source", "twin"), 0);
        FS(copyfile, "source", "twin", 0);
        check_text("source", "content");
        check_text("twin", "content");
#if !defined(_WIN32)
        CHECK_EQ(symlink("source", "alias"), 0);
        FS(copyfile, "source", "alias", 0);
        check_text("source", "content");
        FS(copyfile, "alias", "source", 0);
        check_text("source", "content");
#endif
    }
}

TEST(fs_copyfile_of_nothing) {
    EACH_FORM {
        put_text("target", "content");
        CHECK_EQ(FS(copyfile, "missing", "target", 0), EVL_ENOENT);
        CHECK_EQ(FS(copyfile, "missing", "target", EVL_FS_COPYFILE_FICLONE_FORCE), EVL_ENOENT);
        check_text("target", "content");
        CHECK_EQ(FS(copyfile, "missing", "new", 0), EVL_ENOENT);
        CHECK(!exists("new"));
        CHECK_EQ(FS(copyfile, "target", "missing/new", 0), EVL_ENOENT);
        check_text("target", "content");
    }
}

TEST(fs_copyfile_of_directories) {
    EACH_FORM {
        put_text("target", "content");
        CHECK_EQ(NOW(mkdir, "dir", 0755), 0);
        CHECK_LT(FS(copyfile, "dir", "target", 0), 0);
        check_text("target", "content");
        CHECK_LT(FS(copyfile, "dir", "new", 0), 0);
        CHECK(!exists("new"));
        CHECK_LT(FS(copyfile, "target", "dir", 0), 0);
        CHECK_EQ(NOW(rmdir, "dir"), 0);
    }
}

TEST(fs_copyfile_of_much) {
    enum { BYTES = 5 * 1000 * 1000 + 1 };
    static const int flags[] = {0, EVL_FS_COPYFILE_FICLONE, EVL_FS_COPYFILE_EXCL};
    char *bytes = (char *)malloc(BYTES);
    CHECK(bytes != NULL);
    pattern(bytes, BYTES, 11);
    EACH_FORM {
        put("source", bytes, BYTES);
        for (size_t i = 0; i < COUNT(flags); i++) {
            CHECK_EQ(FS(copyfile, "source", "copy", flags[i]), 0);
            check_file("copy", bytes, BYTES);
            CHECK_EQ(FS(unlink, "copy"), 0);
        }
    }
    free(bytes);
}

/* Where the file system shares blocks, so be it; elsewhere nothing is left of the attempt. */
TEST(fs_copyfile_that_must_share_blocks) {
    EACH_FORM {
        put_text("source", "content");
        ssize_t result = FS(copyfile, "source", "copy", EVL_FS_COPYFILE_FICLONE_FORCE);
        CHECK_LE(result, 0);
        if (result == 0) {
            check_text("copy", "content");
        } else {
            CHECK(result == EVL_ENOTSUP || result == EVL_ENOTTY || result == EVL_ENOSYS ||
                  result == EVL_EXDEV || result == EVL_EINVAL);
            CHECK(!exists("copy"));
        }
        check_text("source", "content");
        CHECK_EQ(FS(copyfile, "source", "shared", EVL_FS_COPYFILE_FICLONE), 0);
        check_text("shared", "content");
        put_text("shared", "Content");
        check_text("source", "content");
    }
}

TEST(fs_flags_that_do_not_exist) {
    EACH_FORM {
        put_text("source", "content");
        put_text("target", "target");
        CHECK_EQ(REFUSED(copyfile, "source", "target", 8), EVL_EINVAL);
        CHECK_EQ(REFUSED(copyfile, "source", "target", -1), EVL_EINVAL);
        CHECK_EQ(REFUSED(copyfile, "source", "new", 0x40000000), EVL_EINVAL);
        CHECK_EQ(REFUSED(symlink, "source", "new", 4), EVL_EINVAL);
        CHECK_EQ(REFUSED(symlink, "source", "new", -1), EVL_EINVAL);
        check_text("target", "target");
        CHECK(!exists("new"));
    }
}

TEST(fs_copyfile_onto_what_is_read_only) {
    EACH_FORM {
        put_text("source", "content");
        put_text("target", "target");
        CHECK_EQ(NOW(chmod, "target", 0444), 0);
#if !defined(_WIN32)
        CHECK_EQ(chmod("source", 0644), 0);
        FS(stat, "."); /* threads that start now are root as well */
        CHECK_EQ(chmod(".", 0777), 0);
        if (geteuid() == 0)
            CHECK_EQ(seteuid(65534), 0);
#endif
        ssize_t result = FS(copyfile, "source", "target", 0);
#if !defined(_WIN32)
        CHECK_EQ(result, EVL_EACCES);
        if (getuid() == 0)
            CHECK_EQ(seteuid(0), 0);
#endif
        check_text("target", result == 0 ? "content" : "target"); /* administrators may */
    }
}

#if !defined(_WIN32)

TEST(fs_copyfile_keeps_the_mode) {
    static const mode_t modes[] = {0640, 0755, 0600, 0777, 0444, 0444};
    EACH_FORM {
        umask(077); /* which has no say here */
        put_text("source", "content");
        for (size_t i = 0; i < COUNT(modes); i++) {
            CHECK_EQ(chmod("source", modes[i]), 0);
            unlink("copy");
            if (i % 2 == 0) /* a new one, and one with another mode */
                put_text("copy", "old and longer");
            CHECK_EQ(FS(copyfile, "source", "copy", 0), 0);
            CHECK_EQ(status_of("copy").st_mode & 07777, modes[i]);
            check_text("copy", "content");
        }
        umask(022);
    }
}

/* A link to copy is followed, and so is one to copy to. */
TEST(fs_copyfile_of_links) {
    EACH_FORM {
        put_text("source", "content");
        CHECK_EQ(symlink("source", "link"), 0);
        CHECK_EQ(FS(copyfile, "link", "copy", 0), 0);
        CHECK_EQ(status_of("copy").st_mode & S_IFMT, S_IFREG);
        check_text("copy", "content");
        put_text("target", "target");
        CHECK_EQ(symlink("target", "alias"), 0);
        CHECK_EQ(FS(copyfile, "source", "alias", 0), 0);
        CHECK_EQ(status_of("alias").st_mode & S_IFMT, S_IFLNK);
        check_text("target", "content");
        CHECK_EQ(FS(copyfile, "source", "alias", EVL_FS_COPYFILE_EXCL), EVL_EEXIST);
    }
}

#endif

#if defined(__linux__)

/* Their size is told as 0, but they can be read. */
TEST(fs_copyfile_of_a_file_of_the_kernel) {
    EACH_FORM {
        if (!exists("/proc/version"))
            skip_files("there is no /proc");
        CHECK_EQ(FS(copyfile, "/proc/version", "copy", 0), 0);
        CHECK_GT(status_of("copy").st_size, 10);
    }
}

#endif

/* ---- Stat ------------------------------------------------------------------------------------- */

TEST(fs_stat_of_a_file_and_a_directory) {
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(NOW(mkdir, "dir", 0755), 0);
        CHECK_EQ(FS(stat, "file"), 0);
        CHECK_PTR(fs.ptr, &fs.statbuf);
        evl_stat_t first = fs.statbuf;
        CHECK_EQ(first.st_size, 7);
        CHECK_EQ(first.st_mode & S_IFMT, S_IFREG);
        CHECK_EQ(first.st_nlink, 1);
        CHECK_GT(first.st_blksize, 0);
        CHECK_NE(first.st_ino, 0);
        CHECK_EQ(first.st_gen, 0);

        CHECK_EQ(FS(lstat, "file"), 0);
        CHECK_PTR(fs.ptr, &fs.statbuf);
        CHECK_MEM(&fs.statbuf, &first, sizeof(first));
        evl_file file = open_now("file", EVL_FS_O_RDWR);
        CHECK_EQ(FS(fstat, file), 0);
        CHECK_PTR(fs.ptr, &fs.statbuf);
#if defined(_WIN32) /* where opening is an access */
        fs.statbuf.st_atim = first.st_atim;
#endif
        CHECK_MEM(&fs.statbuf, &first, sizeof(first));
        evl_buf_t buf = buf_of("more", 4);
        CHECK_EQ(FS(write, file, &buf, 1, 100000), 4);
        CHECK_EQ(FS(fstat, file), 0);
        CHECK_EQ(fs.statbuf.st_size, 100004);
        close_now(file);

        CHECK_EQ(FS(stat, "dir"), 0);
        CHECK_EQ(fs.statbuf.st_mode & S_IFMT, S_IFDIR);
        CHECK_NE(fs.statbuf.st_ino, first.st_ino);
        CHECK_EQ(fs.statbuf.st_dev, first.st_dev);
        CHECK_EQ(FS(stat, "dir/"), 0);
        CHECK_EQ(FS(lstat, "."), 0);
        CHECK_EQ(fs.statbuf.st_mode & S_IFMT, S_IFDIR);
        CHECK_EQ(FS(link, "file", "twin"), 0);
        CHECK_EQ(FS(stat, "twin"), 0);
        CHECK_EQ(fs.statbuf.st_nlink, 2);
        CHECK_EQ(fs.statbuf.st_ino, first.st_ino);
    }
}

static double seconds_of(evl_timespec_t stamp) {
    CHECK_GE(stamp.tv_nsec, 0);
    CHECK_LT(stamp.tv_nsec, 1000000000);
    return (double)stamp.tv_sec + (double)stamp.tv_nsec / 1e9;
}

static void check_stamp(evl_timespec_t stamp, long long sec, long nsec) {
    CHECK_EQ(stamp.tv_sec, sec);
    CHECK_EQ(stamp.tv_nsec, nsec);
}

/* The clocks that stamp files may be a tick behind. */
static void check_now(evl_timespec_t stamp) {
    double age = (double)time(NULL) - seconds_of(stamp);
    CHECK(age > -2 && age < (test_slow() ? 60 : 10));
}

TEST(fs_stat_times) {
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(FS(stat, "file"), 0);
        check_now(fs.statbuf.st_atim);
        check_now(fs.statbuf.st_mtim);
        check_now(fs.statbuf.st_ctim);
        check_now(fs.statbuf.st_birthtim);
        CHECK_EQ(FS(utime, "file", 1000000000.5, 1100000000.25), 0);
        CHECK_EQ(FS(stat, "file"), 0);
        CHECK_EQ(fs.statbuf.st_atim.tv_sec, 1000000000);
        CHECK_EQ(fs.statbuf.st_atim.tv_nsec, 500000000);
        CHECK_EQ(fs.statbuf.st_mtim.tv_sec, 1100000000);
        CHECK_EQ(fs.statbuf.st_mtim.tv_nsec, 250000000);
        check_now(fs.statbuf.st_ctim);
#if !defined(_WIN32)                       /* wine takes the oldest of the others for it */
        check_now(fs.statbuf.st_birthtim); /* or the change's, which is as new */
#endif
    }
}

#if !defined(_WIN32)

static void check_status(const struct stat *expected) {
    CHECK_EQ(fs.statbuf.st_dev, expected->st_dev);
    CHECK_EQ(fs.statbuf.st_mode, expected->st_mode);
    CHECK_EQ(fs.statbuf.st_nlink, expected->st_nlink);
    CHECK_EQ(fs.statbuf.st_uid, expected->st_uid);
    CHECK_EQ(fs.statbuf.st_gid, expected->st_gid);
    CHECK_EQ(fs.statbuf.st_rdev, expected->st_rdev);
    CHECK_EQ(fs.statbuf.st_ino, expected->st_ino);
    CHECK_EQ(fs.statbuf.st_size, expected->st_size);
    CHECK_EQ(fs.statbuf.st_blksize, expected->st_blksize);
    CHECK_EQ(fs.statbuf.st_blocks, expected->st_blocks);
    CHECK_EQ(fs.statbuf.st_atim.tv_sec, expected->st_atime);
    CHECK_EQ(fs.statbuf.st_mtim.tv_sec, expected->st_mtime);
    CHECK_EQ(fs.statbuf.st_ctim.tv_sec, expected->st_ctime);
#if defined(__linux__)
    CHECK_EQ(fs.statbuf.st_atim.tv_nsec, expected->st_atim.tv_nsec);
    CHECK_EQ(fs.statbuf.st_mtim.tv_nsec, expected->st_mtim.tv_nsec);
    CHECK_EQ(fs.statbuf.st_ctim.tv_nsec, expected->st_ctim.tv_nsec);
    CHECK_EQ(fs.statbuf.st_flags, 0);
    CHECK_EQ(fs.statbuf.st_gen, 0);
#endif
}

/* As the system's own calls have it, field by field. */
TEST(fs_stat_as_the_system_does) {
    static const char *const paths[] = {"file",      "dir", "link",    "pipe",
                                        "/dev/null", "/",   "dangling"};
    struct stat expected;
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(chmod("file", 06751), 0);
        CHECK_EQ(mkdir("dir", 01777), 0);
        CHECK_EQ(mkfifo("pipe", 0600), 0);
        CHECK_EQ(symlink("file", "link"), 0);
        CHECK_EQ(symlink("nowhere at all", "dangling"), 0);
        for (size_t i = 0; i < COUNT(paths); i++) {
            if (test_qemu() && paths[i][0] == '/')
                continue; /* which it looks for beneath its own root, in some calls */
            if (stat(paths[i], &expected) == 0) {
                CHECK_EQ(FS(stat, paths[i]), 0);
                check_status(&expected);
            } else {
                CHECK_EQ(FS(stat, paths[i]), EVL_ENOENT);
                CHECK_PTR(fs.ptr, NULL);
            }
            CHECK_EQ(lstat(paths[i], &expected), 0);
            CHECK_EQ(FS(lstat, paths[i]), 0);
            check_status(&expected);
        }
        CHECK_EQ(fs.statbuf.st_size, strlen("nowhere at all"));
        CHECK_EQ(fs.statbuf.st_mode & S_IFMT, S_IFLNK);
        evl_file ends[2];
        os_pipe(ends);
        CHECK_EQ(fstat(ends[0], &expected), 0);
        CHECK_EQ(FS(fstat, ends[0]), 0);
        check_status(&expected);
        close_now(ends[0]);
        close_now(ends[1]);
        CHECK_EQ(fstat(0, &expected), 0);
        CHECK_EQ(FS(fstat, 0), 0);
        check_status(&expected);
    }
}

#if defined(__linux__)

TEST(fs_stat_time_of_birth) {
#if defined(STATX_BTIME)
    EACH_FORM {
        struct statx born;
        put_text("file", "content");
        test_sleep_ms(30); /* more than a tick of the clock that stamps files */
        CHECK_EQ(chmod("file", 0600), 0);
        if (statx(AT_FDCWD, "file", 0, STATX_BTIME, &born) != 0 ||
            (born.stx_mask & STATX_BTIME) == 0)
            skip_files("the file system does not keep it");
        CHECK_EQ(FS(stat, "file"), 0);
        check_stamp(fs.statbuf.st_birthtim, born.stx_btime.tv_sec, (long)born.stx_btime.tv_nsec);
        CHECK(seconds_of(fs.statbuf.st_birthtim) < seconds_of(fs.statbuf.st_ctim));
    }
#else
    SKIP("the C library does not tell it");
#endif
}

#endif

TEST(fs_stat_of_blocks) {
    char bytes[20000];
    EACH_FORM {
        memset(bytes, 'x', sizeof(bytes));
        put("file", bytes, sizeof(bytes));
        evl_file file = open_now("file", EVL_FS_O_RDWR);
        CHECK_EQ(FS(fsync, file), 0);
        CHECK_EQ(FS(fstat, file), 0);
        CHECK_GE(fs.statbuf.st_blocks * 512, sizeof(bytes));
        CHECK_EQ(FS(ftruncate, file, 100000000), 0); /* with a hole, which takes none */
        CHECK_EQ(FS(fstat, file), 0);
        CHECK_LT(fs.statbuf.st_blocks * 512, 50000000);
        close_now(file);
    }
}

#endif

TEST(fs_access) {
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(FS(access, "file", 0), 0);
        CHECK_EQ(FS(access, "file", 4), 0);
        CHECK_EQ(FS(access, "file", 2), 0);
        CHECK_EQ(FS(access, "file", 6), 0);
        CHECK_EQ(FS(access, ".", 7), 0);
        CHECK_EQ(FS(access, "missing", 0), EVL_ENOENT);
        CHECK_EQ(FS(access, "missing", 6), EVL_ENOENT);
        CHECK_EQ(FS(chmod, "file", 0444), 0);
        CHECK_EQ(FS(access, "file", 4), 0);
#if defined(_WIN32)
        CHECK_EQ(FS(access, "file", 2), EVL_EPERM);
#else
        CHECK_EQ(chmod("file", 0666), 0);
        CHECK_EQ(FS(access, "file", 1), EVL_EACCES); /* not even root may */
        CHECK_EQ(chmod("file", 0111), 0);
        CHECK_EQ(chmod(".", 0777), 0);
        FS(stat, "."); /* threads that start now are root as well */
        if (getuid() == 0)
            CHECK_EQ(setreuid(65534, 0), 0); /* the real user counts */
        CHECK_EQ(FS(access, "file", 1), 0);
        CHECK_EQ(FS(access, "file", 4), EVL_EACCES);
        CHECK_EQ(FS(access, "file", 2), EVL_EACCES);
        CHECK_EQ(FS(access, "file", 5), EVL_EACCES);
        CHECK_EQ(FS(access, "file", 0), 0);
        if (geteuid() == 0)
            CHECK_EQ(setreuid(0, 0), 0);
        CHECK_EQ(FS(access, "file", 64), EVL_EINVAL);
#endif
    }
}

/* ---- Mode and owner --------------------------------------------------------------------------- */

#define OWNER_WRITES 0200

TEST(fs_chmod_and_fchmod) {
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(FS(chmod, "file", 0444), 0);
        CHECK_EQ(status_of("file").st_mode & OWNER_WRITES, 0);
        CHECK_EQ(FS(chmod, "file", 0644), 0);
        CHECK_EQ(status_of("file").st_mode & OWNER_WRITES, OWNER_WRITES);
        evl_file file = open_now("file", EVL_FS_O_RDWR);
        CHECK_EQ(FS(fchmod, file, 0400), 0);
        CHECK_EQ(status_of("file").st_mode & OWNER_WRITES, 0);
        CHECK_EQ(FS(fchmod, file, 0600), 0);
        CHECK_EQ(status_of("file").st_mode & OWNER_WRITES, OWNER_WRITES);
#if !defined(_WIN32)
        static const int modes[] = {0, 0777, 0421, 07777, 01644, 0600};
        for (size_t i = 0; i < COUNT(modes); i++) {
            CHECK_EQ(FS(chmod, "file", modes[i]), 0);
            CHECK_EQ(status_of("file").st_mode, (unsigned)(S_IFREG | modes[i]));
            CHECK_EQ(FS(fchmod, file, modes[COUNT(modes) - 1 - i]), 0);
            CHECK_EQ(status_of("file").st_mode, (unsigned)(S_IFREG | modes[COUNT(modes) - 1 - i]));
        }
        CHECK_EQ(symlink("file", "link"), 0);
        CHECK_EQ(FS(chmod, "link", 0640), 0); /* follows it */
        CHECK_EQ(status_of("file").st_mode & 07777, 0640);
#endif
        close_now(file);
        check_text("file", "content");
    }
}

TEST(fs_chown_to_nobody) {
    EACH_FORM {
        put_text("file", "content");
        evl_stat_t before = status_of("file");
        evl_file file = open_now("file", EVL_FS_O_RDWR);
        const evl_uid_t no_user = (evl_uid_t)-1;
        const evl_gid_t no_group = (evl_gid_t)-1;
        CHECK_EQ(FS(chown, "file", no_user, no_group), 0);
        CHECK_EQ(FS(fchown, file, no_user, no_group), 0);
        CHECK_EQ(FS(lchown, "file", no_user, no_group), 0);
        CHECK_EQ(fs.fs_type, EVL_FS_LCHOWN);
        CHECK_EQ(status_of("file").st_uid, before.st_uid);
        CHECK_EQ(status_of("file").st_gid, before.st_gid);
        close_now(file);
    }
}

#if !defined(_WIN32)

static void check_owner(const char *path, unsigned uid, unsigned gid) {
    CHECK_EQ(status_of(path).st_uid, uid);
    CHECK_EQ(status_of(path).st_gid, gid);
}

TEST(fs_chown_of_files_and_links) {
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(symlink("file", "link"), 0);
        if (geteuid() != 0) {
            evl_file file = open_now("file", EVL_FS_O_RDWR);
            CHECK_EQ(FS(chown, "/", 0, (evl_gid_t)-1), EVL_EPERM);
            CHECK_EQ(FS(fchown, file, 0, 0), EVL_EPERM);
            CHECK_EQ(FS(lchown, "link", 0, 0), EVL_EPERM);
            close_now(file);
        } else {
            evl_file file = open_now("file", EVL_FS_O_RDWR);
            CHECK_EQ(FS(chown, "file", 101, 202), 0);
            check_owner("file", 101, 202);
            CHECK_EQ(FS(chown, "file", 103, (evl_gid_t)-1), 0);
            check_owner("file", 103, 202);
            CHECK_EQ(FS(chown, "file", (evl_uid_t)-1, 204), 0);
            check_owner("file", 103, 204);
            CHECK_EQ(FS(fchown, file, 105, 206), 0);
            check_owner("file", 105, 206);
            CHECK_EQ(FS(chown, "link", 107, 208), 0);
            check_owner("file", 107, 208);
            check_owner("link", 0, (unsigned)status_of("link").st_gid);
            CHECK_EQ(FS(lchown, "link", 109, 210), 0);
            check_owner("file", 107, 208);
            check_owner("link", 109, 210);
            close_now(file);
        }
    }
}

#endif

/* ---- Times ------------------------------------------------------------------------------------ */

TEST(fs_utime_and_futime) {
    /* these seconds are told by a double to the last digit */
    static const struct {
        double seconds;
        long sec, nsec;
    } times[] = {{0, 0, 0},
                 {1, 1, 0},
                 {1234567890.015625, 1234567890, 15625000},
                 {1234567890.5, 1234567890, 500000000},
                 {2000000000.984375, 2000000000, 984375000},
                 {-1, -1, 0},
                 {-1.5, -2, 500000000},
                 {-0.25, -1, 750000000},
                 {-1000000.015625, -1000001, 984375000},
                 {0.5, 0, 500000000}};
    EACH_FORM {
        put_text("file", "content");
        evl_file file = open_now("file", EVL_FS_O_RDWR);
        for (size_t i = 0; i < COUNT(times); i++) {
            size_t k = COUNT(times) - 1 - i;
            CHECK_EQ(FS(utime, "file", times[i].seconds, times[k].seconds), 0);
            CHECK_EQ(fs.fs_type, EVL_FS_UTIME);
            CHECK_EQ(NOW(stat, "file"), 0);
            check_stamp(now.statbuf.st_atim, times[i].sec, times[i].nsec);
            check_stamp(now.statbuf.st_mtim, times[k].sec, times[k].nsec);
            CHECK_EQ(FS(futime, file, times[k].seconds, times[i].seconds), 0);
            CHECK_EQ(fs.fs_type, EVL_FS_FUTIME);
            CHECK_EQ(NOW(stat, "file"), 0);
            check_stamp(now.statbuf.st_atim, times[k].sec, times[k].nsec);
            check_stamp(now.statbuf.st_mtim, times[i].sec, times[i].nsec);
        }
        close_now(file);
        CHECK_EQ(NOW(mkdir, "dir", 0755), 0);
        CHECK_EQ(FS(utime, "dir", 1000.5, 2000.25), 0);
        CHECK_EQ(NOW(stat, "dir"), 0);
        check_stamp(now.statbuf.st_atim, 1000, 500000000);
        check_stamp(now.statbuf.st_mtim, 2000, 250000000);
    }
}

/* A double holds less than a millionth exactly, but enough to tell which one was meant. */
TEST(fs_utime_to_the_microsecond) {
    EACH_FORM {
        put_text("file", "content");
        for (int i = 0; i < 50; i++) {
            long usec = (i * 20011 + 7) % 1000000;
            double seconds = 1700000000 + i + (double)usec / 1e6;
            CHECK_EQ(FS(utime, "file", seconds, seconds), 0);
            CHECK_EQ(NOW(stat, "file"), 0);
            check_stamp(now.statbuf.st_mtim, 1700000000 + i, usec * 1000);
            CHECK_MEM(&now.statbuf.st_atim, &now.statbuf.st_mtim, sizeof(evl_timespec_t));
        }
    }
}

/* Now, and as it was. */
static void check_special_times(int (*start)(double atime, double mtime)) {
    fs_begin();
    CHECK_EQ(fs_end(start(1000.5, 2000.5)), 0);
    fs_begin();
    CHECK_EQ(fs_end(start(EVL_FS_UTIME_OMIT, 3000.5)), 0);
    CHECK_EQ(NOW(lstat, "file"), 0);
    check_stamp(now.statbuf.st_atim, 1000, 500000000);
    check_stamp(now.statbuf.st_mtim, 3000, 500000000);
    fs_begin();
    CHECK_EQ(fs_end(start(4000.25, EVL_FS_UTIME_OMIT)), 0);
    CHECK_EQ(NOW(lstat, "file"), 0);
    check_stamp(now.statbuf.st_atim, 4000, 250000000);
    check_stamp(now.statbuf.st_mtim, 3000, 500000000);
    fs_begin();
    CHECK_EQ(fs_end(start(EVL_FS_UTIME_OMIT, EVL_FS_UTIME_OMIT)), 0);
    CHECK_EQ(NOW(lstat, "file"), 0);
    check_stamp(now.statbuf.st_atim, 4000, 250000000);
    check_stamp(now.statbuf.st_mtim, 3000, 500000000);
    fs_begin();
    CHECK_EQ(fs_end(start(EVL_FS_UTIME_NOW, EVL_FS_UTIME_OMIT)), 0);
    CHECK_EQ(NOW(lstat, "file"), 0);
    check_now(now.statbuf.st_atim);
    check_stamp(now.statbuf.st_mtim, 3000, 500000000);
    fs_begin();
    CHECK_EQ(fs_end(start(5000, EVL_FS_UTIME_NOW)), 0);
    CHECK_EQ(NOW(lstat, "file"), 0);
    check_stamp(now.statbuf.st_atim, 5000, 0);
    check_now(now.statbuf.st_mtim);
    fs_begin();
    CHECK_EQ(fs_end(start(EVL_FS_UTIME_NOW, EVL_FS_UTIME_NOW)), 0);
    CHECK_EQ(NOW(lstat, "file"), 0);
    check_now(now.statbuf.st_atim);
    check_now(now.statbuf.st_mtim);
}

static int start_special_utime(double atime, double mtime) {
    return evl_fs_utime(form_loop(), &fs, "file", atime, mtime, how);
}

static int start_special_lutime(double atime, double mtime) {
    return evl_fs_lutime(form_loop(), &fs, "file", atime, mtime, how);
}

static int start_special_futime(double atime, double mtime) {
    return evl_fs_futime(form_loop(), &fs, source, atime, mtime, how);
}

TEST(fs_utime_now_and_omit) {
    EACH_FORM {
        put_text("file", "content");
        source = open_now("file", EVL_FS_O_RDWR);
        check_special_times(start_special_utime);
        check_special_times(start_special_futime);
        check_special_times(start_special_lutime);
        close_now(source);
    }
}

/* No moment that a file could have: an error, or the nearest that it has, but not any other. */
TEST(fs_utime_out_of_range) {
    static const double times[] = {1e300, -1e300, 1e19, -1e19};
    EACH_FORM {
        put_text("file", "content");
        for (size_t i = 0; i < COUNT(times); i++) {
            CHECK_EQ(FS(utime, "file", 1000, 1000000000), 0);
            ssize_t result = FS(utime, "file", EVL_FS_UTIME_OMIT, times[i]);
            CHECK_EQ(NOW(stat, "file"), 0);
            check_stamp(now.statbuf.st_atim, 1000, 0);
            if (result < 0)
                check_stamp(now.statbuf.st_mtim, 1000000000, 0);
            else if (times[i] > 0)
                CHECK_GT(now.statbuf.st_mtim.tv_sec, 1000000000);
            else
                CHECK_LE(now.statbuf.st_mtim.tv_sec, 0);
        }
    }
}

#if !defined(_WIN32)

TEST(fs_utime_of_links) {
    EACH_FORM {
        put_text("target", "content");
        CHECK_EQ(symlink("target", "link"), 0);
        CHECK_EQ(FS(utime, "link", 1000.5, 2000.5), 0);
        CHECK_EQ(NOW(lstat, "target"), 0);
        check_stamp(now.statbuf.st_atim, 1000, 500000000);
        check_stamp(now.statbuf.st_mtim, 2000, 500000000);
        CHECK_EQ(NOW(lstat, "link"), 0);
        check_now(now.statbuf.st_mtim);
        CHECK_EQ(FS(lutime, "link", 3000.5, 4000.5), 0);
        CHECK_EQ(fs.fs_type, EVL_FS_LUTIME);
        CHECK_EQ(NOW(lstat, "link"), 0);
        check_stamp(now.statbuf.st_mtim, 4000, 500000000);
        CHECK_EQ(NOW(lstat, "target"), 0);
        check_stamp(now.statbuf.st_atim, 1000, 500000000);
        check_stamp(now.statbuf.st_mtim, 2000, 500000000);
        CHECK_EQ(symlink("nowhere", "dangling"), 0);
        CHECK_EQ(FS(utime, "dangling", 1, 2), EVL_ENOENT);
        CHECK_EQ(FS(lutime, "dangling", 1, 2), 0);
    }
}

/* Beyond what 32 bits count to; a file system that keeps no more has its last second. */
TEST(fs_utime_after_2038) {
    EACH_FORM {
        if (sizeof(long) == 4)
            skip_files("seconds have 32 bits here");
        put_text("file", "content");
        CHECK_EQ(FS(utime, "file", 4294967301.5, 4294967302.5), 0);
        CHECK_EQ(FS(stat, "file"), 0);
        CHECK(fs.statbuf.st_atim.tv_sec == (long)INT64_C(4294967301) ||
              fs.statbuf.st_atim.tv_sec == 0x7fffffff);
        CHECK(fs.statbuf.st_mtim.tv_sec == (long)INT64_C(4294967302) ||
              fs.statbuf.st_mtim.tv_sec == 0x7fffffff);
    }
}

#endif

/* ---- Names ------------------------------------------------------------------------------------ */

TEST(fs_unlink) {
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(NOW(mkdir, "dir", 0755), 0);
        CHECK_EQ(FS(unlink, "file"), 0);
        CHECK(!exists("file"));
        CHECK_EQ(FS(unlink, "file"), EVL_ENOENT);
        ssize_t result = FS(unlink, "dir");
        CHECK(result == EVL_EISDIR || result == EVL_EPERM); /* Linux, and the rest */
        CHECK(exists("dir"));
#if !defined(_WIN32)
        put_text("file", "content");
        CHECK_EQ(symlink("file", "link"), 0);
        CHECK_EQ(FS(unlink, "link"), 0);
        CHECK(!exists("link"));
        check_text("file", "content");
#endif
    }
}

TEST(fs_rename) {
    EACH_FORM {
        put_text("one", "first");
        CHECK_EQ(FS(rename, "one", "two"), 0);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_STR(fs.path, "one");
        CHECK(!exists("one"));
        check_text("two", "first");
        put_text("three", "third");
        CHECK_EQ(FS(rename, "three", "two"), 0); /* over what is there */
        CHECK(!exists("three"));
        check_text("two", "third");
        CHECK_EQ(FS(rename, "two", "two"), 0);
        check_text("two", "third");
        CHECK_EQ(NOW(mkdir, "dir", 0755), 0);
        CHECK_EQ(FS(rename, "dir", "other"), 0);
        CHECK(!exists("dir"));
        CHECK_EQ(FS(rename, "two", "other/two"), 0);
        check_text("other/two", "third");
        CHECK_EQ(FS(rename, "missing", "other/two"), EVL_ENOENT);
        check_text("other/two", "third");
#if !defined(_WIN32)
        put_text("file", "content");
        CHECK_EQ(FS(rename, "file", "other"), EVL_EISDIR);
        CHECK_EQ(FS(rename, "other", "file"), EVL_ENOTDIR);
        CHECK_EQ(FS(rename, "other", "other/inside"), EVL_EINVAL);
        CHECK_EQ(NOW(mkdir, "empty", 0755), 0);
        CHECK(FS(rename, "empty", "other") == EVL_ENOTEMPTY || fs.result == EVL_EEXIST);
        CHECK_EQ(FS(rename, "other", "empty"), 0);
        check_text("empty/two", "third");
#endif
    }
}

TEST(fs_link) {
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(FS(link, "file", "twin"), 0);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_STR(fs.path, "file");
        check_text("twin", "content");
        put_text("twin", "changed");
        check_text("file", "changed"); /* the same file */
        CHECK_EQ(status_of("file").st_nlink, 2);
        CHECK_EQ(FS(link, "file", "twin"), EVL_EEXIST);
        CHECK_EQ(FS(link, "missing", "new"), EVL_ENOENT);
        CHECK(!exists("new"));
        CHECK_EQ(FS(unlink, "file"), 0);
        check_text("twin", "changed");
        CHECK_EQ(status_of("twin").st_nlink, 1);
        CHECK_EQ(NOW(mkdir, "dir", 0755), 0);
        CHECK_LT(FS(link, "dir", "new"), 0);
        CHECK(!exists("new"));
    }
}

/* Windows may ask for a privilege to make a link; but not for a junction. */
TEST(fs_symlink_and_readlink) {
    EACH_FORM {
        put_text("file", "content");
        ssize_t result = FS(symlink, "file", "link", 0);
#if defined(_WIN32)
        if (result == EVL_EPERM || result == EVL_ENOSYS || result == EVL_ENOTSUP || !exists("link"))
            skip_files("links need a privilege here, or are not made at all by wine");
#endif
        CHECK_EQ(result, 0);
        CHECK_STR(fs.path, "file");
        CHECK_PTR(fs.ptr, NULL);
        CHECK_EQ(FS(readlink, "link"), 0);
        CHECK_STR((const char *)fs.ptr, "file");
        CHECK_STR(fs.path, "link");
        check_text("link", "content");
        CHECK_EQ(FS(lstat, "link"), 0);
        CHECK_EQ(fs.statbuf.st_size, 4);
        CHECK_EQ(FS(stat, "link"), 0);
        CHECK_EQ(fs.statbuf.st_size, 7);
        CHECK_EQ(FS(symlink, "other", "link", 0), EVL_EEXIST);
        CHECK_EQ(FS(readlink, "link"), 0);
        CHECK_STR((const char *)fs.ptr, "file");
        CHECK_EQ(FS(symlink, "nowhere", "dangling", 0), 0);
        CHECK_EQ(FS(readlink, "dangling"), 0);
        CHECK_STR((const char *)fs.ptr, "nowhere");
        CHECK_EQ(FS(stat, "dangling"), EVL_ENOENT);
        CHECK_EQ(FS(readlink, "missing"), EVL_ENOENT);
        CHECK_PTR(fs.ptr, NULL);
#if !defined(_WIN32)
        CHECK_EQ(FS(readlink, "file"), EVL_EINVAL);
        CHECK_EQ(FS(readlink, "."), EVL_EINVAL);
        CHECK_EQ(FS(symlink, "", "new", 0), EVL_ENOENT);
        CHECK_EQ(FS(symlink, "file", "plain", EVL_FS_SYMLINK_DIR), 0);
        CHECK_EQ(FS(symlink, "file", "plainer", EVL_FS_SYMLINK_JUNCTION), 0);
        check_text("plainer", "content");
#else
        CHECK_LT(FS(readlink, "file"), 0);
#endif
    }
}

#if defined(_WIN32)

TEST(fs_symlink_as_a_junction) {
    EACH_FORM {
        static char target[4096];
        CHECK_EQ(FS(mkdir, "dir", 0755), 0);
        put_text("dir/file", "content");
        CHECK_EQ(FS(realpath, "dir"), 0);
        CHECK_LT(strlen((const char *)fs.ptr), sizeof(target));
        memcpy(target, fs.ptr, strlen((const char *)fs.ptr) + 1);
        ssize_t result = FS(symlink, target, "junction", EVL_FS_SYMLINK_JUNCTION);
        if (result == EVL_ENOSYS || result == EVL_ENOTSUP || result == EVL_EINVAL)
            skip_files("the system has no junctions");
        CHECK_EQ(result, 0);
        check_text("junction/file", "content");
        CHECK_EQ(FS(readlink, "junction"), 0);
        CHECK_EQ(FS(unlink, "junction"), 0);
        check_text("dir/file", "content");
    }
}

#else

/* Longer than any first guess at the room for it. */
TEST(fs_readlink_of_long_links) {
    static const size_t lengths[] = {1, 63, 64, 255, 256, 257, 1023, 1024, 2000, 4094, 4095};
    static char target[4096];
    EACH_FORM {
        for (size_t i = 0; i < COUNT(lengths); i++) {
            for (size_t n = 0; n < lengths[i]; n++)
                target[n] = n % 100 == 99 ? '/' : 't';
            target[lengths[i]] = '\0';
            if (symlink(target, "link") != 0)
                continue; /* not every file system takes the longest */
            CHECK_EQ(FS(readlink, "link"), 0);
            CHECK_STR((const char *)fs.ptr, target);
            CHECK_EQ(unlink("link"), 0);
        }
    }
}

/* Told by the kernel with a size of 0. */
#if defined(__linux__)
TEST(fs_readlink_of_a_link_without_a_size) {
    EACH_FORM {
        char expected[4096];
        if (!exists("/proc/self/cwd"))
            skip_files("there is no /proc");
        CHECK(getcwd(expected, sizeof(expected)) != NULL);
        CHECK_EQ(FS(readlink, "/proc/self/cwd"), 0);
        CHECK_STR((const char *)fs.ptr, expected);
    }
}
#endif

static void check_realpath(const char *path, const char *expected) {
    char base[4096], whole[8192];
    CHECK(realpath(".", base) != NULL); /* the C library's own */
    snprintf(whole, sizeof(whole), "%s%s%s", base, expected[0] != '\0' ? "/" : "", expected);
    CHECK_EQ(FS(realpath, path), 0);
    CHECK_STR((const char *)fs.ptr, whole);
    CHECK_STR(fs.path, path);
}

TEST(fs_realpath_of_links) {
    EACH_FORM {
        CHECK_EQ(mkdir("dir", 0755), 0);
        CHECK_EQ(mkdir("dir/inner", 0755), 0);
        put_text("dir/inner/file", "content");
        CHECK_EQ(symlink("dir/inner", "link"), 0);
        CHECK_EQ(symlink("../../link/file", "dir/inner/round"), 0);
        CHECK_EQ(symlink("nowhere", "dangling"), 0);
        check_realpath(".", "");
        check_realpath("./", "");
        check_realpath("dir/..", "");
        check_realpath("link", "dir/inner");
        check_realpath("link/../..//dir/./inner", "dir/inner");
        check_realpath("dir/inner/round", "dir/inner/file");
        check_realpath("link/round", "dir/inner/file");
        CHECK_EQ(FS(realpath, "dangling"), EVL_ENOENT);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_EQ(FS(realpath, "link/file/x"), EVL_ENOTDIR);
        CHECK_EQ(FS(realpath, ""), EVL_ENOENT);
        CHECK_EQ(FS(realpath, "/"), 0);
        CHECK_STR((const char *)fs.ptr, "/");
    }
}

/* The result may be longer than what was asked for. */
TEST(fs_realpath_that_is_deep) {
    static char name[201];
    EACH_FORM {
        char expected[4096] = "";
        memset(name, 'd', 200);
        for (int i = 0; i < 10; i++) {
            CHECK_EQ(mkdir(name, 0755), 0);
            os_chdir(name);
            strcat(expected, name);
            if (i < 9)
                strcat(expected, "/");
        }
        for (int i = 0; i < 10; i++)
            os_chdir("..");
        check_realpath(expected, expected);
        CHECK_EQ(symlink(expected, "link"), 0);
        check_realpath("link", expected);
    }
}

#endif

TEST(fs_realpath) {
    EACH_FORM {
        static char base[4096];
        put_text("file", "content");
        CHECK_EQ(FS(mkdir, "dir", 0755), 0);
        CHECK_EQ(FS(realpath, "."), 0);
        CHECK_LT(strlen((const char *)fs.ptr), sizeof(base));
        memcpy(base, fs.ptr, strlen((const char *)fs.ptr) + 1);
        size_t length = strlen(base);
        CHECK_GT(length, strlen(scratch));
        CHECK_EQ(FS(realpath, "dir/../file"), 0);
        CHECK_MEM(fs.ptr, base, length);
        CHECK_STR((const char *)fs.ptr + length + 1, "file");
        CHECK_EQ(FS(realpath, base), 0);
        CHECK_STR((const char *)fs.ptr, base);
        CHECK_EQ(FS(realpath, "missing"), EVL_ENOENT);
        CHECK_PTR(fs.ptr, NULL);
#if !defined(_WIN32) /* where dots go before anything is looked at */
        CHECK_EQ(FS(realpath, "missing/../file"), EVL_ENOENT);
#endif
    }
}

static const char *const odd_names[] = {
    "a",
    "with a space",
    " leading and trailing.x",
    "-rf",
    "%s%n%d",
    "caf\xc3\xa9",
    "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
    "\xf0\x9f\x98\x80",
    "#hash;semicolon&and'quote",
#if !defined(_WIN32)
    "back\\slash",
    "new\nline",
    "star*and?mark",
    "invalid\xff\xfe utf-8",
#endif
};

TEST(fs_odd_names) {
    EACH_FORM {
        for (size_t i = 0; i < COUNT(odd_names); i++) {
            const char *name = odd_names[i];
            evl_dirent_t entry;
            CHECK_EQ(FS(mkdir, "dir", 0755), 0);
            os_chdir("dir");
            evl_file file =
                (evl_file)FS(open, name, EVL_FS_O_RDWR | EVL_FS_O_CREAT | EVL_FS_O_EXCL, 0644);
            CHECK_GE(file, 0);
            CHECK_STR(fs.path, name);
            evl_buf_t buf = buf_of("content", 7);
            CHECK_EQ(FS(write, file, &buf, 1, 0), 7);
            CHECK_EQ(FS(close, file), 0);
            CHECK_EQ(FS(stat, name), 0);
            CHECK_EQ(fs.statbuf.st_size, 7);
            CHECK_EQ(FS(scandir, ".", 0), 1);
            CHECK_EQ(evl_fs_scandir_next(&fs, &entry), 0);
            CHECK_STR(entry.name, name);
            CHECK_EQ(FS(realpath, name), 0);
            CHECK_STR((const char *)fs.ptr + strlen((const char *)fs.ptr) - strlen(name), name);
            CHECK_EQ(FS(rename, name, "plain"), 0);
            check_text("plain", "content");
            CHECK_EQ(FS(copyfile, "plain", name, 0), 0);
            CHECK_EQ(FS(unlink, name), 0);
            os_chdir("..");
            remove_tree("dir");
        }
    }
}

/* Names, and paths, of every length about where it matters. */
TEST(fs_lengths_of_names) {
    static const size_t lengths[] = {1, 2, 31, 32, 62, 63, 64, 65, 127, 128, 254, 255};
    static char name[256];
    EACH_FORM {
        for (size_t i = 0; i < COUNT(lengths); i++) {
            memset(name, 'n', sizeof(name));
            name[lengths[i]] = '\0';
            evl_file file =
                (evl_file)FS(open, name, EVL_FS_O_RDWR | EVL_FS_O_CREAT | EVL_FS_O_EXCL, 0644);
            CHECK_GE(file, 0);
            CHECK_STR(fs.path, name);
            CHECK_EQ(FS(close, file), 0);
            CHECK_EQ(FS(rename, name, "plain"), 0);
            CHECK_EQ(FS(rename, "plain", name), 0);
            CHECK(exists(name));
            CHECK(!exists("plain"));
            CHECK_EQ(FS(unlink, name), 0);
            CHECK(!exists(name));
        }
        memset(name, 'n', sizeof(name));
        CHECK_EQ(name[255], 'n');
    }
}

TEST(fs_lengths_of_paths) {
    static const size_t lengths[] = {257, 258,  259,  260,  261,  511,
                                     512, 1023, 1024, 2048, 4094, 4095};
    static char path[4096], new_path[4096];
    EACH_FORM {
        for (size_t i = 0; i < COUNT(lengths); i++) {
#if !defined(__linux__) && !defined(_WIN32)
            if (lengths[i] >= 1024)
                break;
#endif
            put_text("f", "content");
            size_t length = lengths[i];
            for (size_t n = 0; n < length; n++)
                new_path[n] = path[n] = n % 2 == 0 ? '.' : '/';
            if (length % 2 == 0)
                new_path[length - 2] = path[length - 2] = '/';
            path[length - 1] = 'f';
            new_path[length - 1] = 'g';
            path[length] = new_path[length] = '\0';
            CHECK_EQ(FS(stat, path), 0);
            CHECK_EQ(fs.statbuf.st_size, 7);
            CHECK_STR(fs.path, path);
            CHECK_EQ(FS(rename, path, new_path), 0);
            check_text("g", "content");
            CHECK_EQ(FS(copyfile, new_path, path, 0), 0);
            check_text("f", "content");
            CHECK_EQ(FS(unlink, new_path), 0);
            CHECK(!exists("g"));
        }
    }
}

/* ---- Directories ------------------------------------------------------------------------------ */

TEST(fs_mkdir_and_rmdir) {
    EACH_FORM {
        CHECK_EQ(FS(mkdir, "dir", 0755), 0);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_EQ(status_of("dir").st_mode & S_IFMT, S_IFDIR);
        CHECK_EQ(FS(mkdir, "dir", 0755), EVL_EEXIST);
        put_text("file", "content");
        CHECK_EQ(FS(mkdir, "file", 0755), EVL_EEXIST);
        check_text("file", "content");
        CHECK_EQ(FS(mkdir, "dir/inner", 0755), 0);
        ssize_t result = FS(rmdir, "dir");
        CHECK(result == EVL_ENOTEMPTY || result == EVL_EEXIST);
        CHECK_EQ(FS(rmdir, "dir/inner"), 0);
        CHECK_EQ(FS(rmdir, "dir"), 0);
        CHECK(!exists("dir"));
        CHECK_EQ(FS(rmdir, "dir"), EVL_ENOENT);
        CHECK_LT(FS(rmdir, "file"), 0);
        check_text("file", "content");
#if !defined(_WIN32)
        umask(027);
        CHECK_EQ(FS(mkdir, "dir", 0767), 0);
        CHECK_EQ(status_of("dir").st_mode & 0777, 0740);
        umask(022);
        CHECK_EQ(FS(rmdir, "."), EVL_EINVAL);
#endif
    }
}

TEST(fs_mkdtemp) {
    EACH_FORM {
        static char names[100][32];
        const char *tpl = "temp dir-XXXXXX";
        char kept[16];
        memcpy(kept, tpl, 16);
        for (int i = 0; i < 100; i++) {
            CHECK_EQ(FS(mkdtemp, kept), 0);
            CHECK_PTR(fs.ptr, NULL);
            CHECK_STR(kept, tpl); /* what was given stays */
            CHECK_EQ(strlen(fs.path), 15);
            CHECK_MEM(fs.path, tpl, 9);
            CHECK(strcmp(fs.path + 9, "XXXXXX") != 0);
            CHECK_PTR(evl_fs_get_path(&fs), fs.path);
            memcpy(names[i], fs.path, 16);
            for (int n = 0; n < i; n++)
                CHECK(strcmp(names[n], names[i]) != 0);
            CHECK_EQ(status_of(names[i]).st_mode & S_IFMT, S_IFDIR);
#if !defined(_WIN32)
            CHECK_EQ(status_of(names[i]).st_mode & 0777, 0700);
#endif
        }
        CHECK_EQ(FS(scandir, ".", 0), 100);
        CHECK_EQ(FS(mkdtemp, "missing/dir-XXXXXX"), EVL_ENOENT);
        CHECK_EQ(FS(mkdtemp, "XXXXXX"), 0);
        CHECK_EQ(strlen(fs.path), 6);
        CHECK(exists(fs.path));
    }
}

TEST(fs_mkstemp) {
    EACH_FORM {
        static char names[100][32];
        const char *tpl = "temp file-XXXXXX";
        char kept[17];
        memcpy(kept, tpl, 17);
        for (int i = 0; i < 100; i++) {
            evl_file file = (evl_file)FS(mkstemp, kept);
            CHECK_GE(file, 0);
            CHECK_PTR(fs.ptr, NULL);
            CHECK_STR(kept, tpl);
            CHECK_EQ(strlen(fs.path), 16);
            CHECK_MEM(fs.path, tpl, 10);
            memcpy(names[i], fs.path, 17);
            for (int n = 0; n < i; n++)
                CHECK(strcmp(names[n], names[i]) != 0);
            evl_buf_t buf = buf_of("content", 7);
            CHECK_EQ(FS(write, file, &buf, 1, 0), 7);
            buf = evl_buf_init(room, 7);
            CHECK_EQ(FS(read, file, &buf, 1, 0), 7);
            CHECK_MEM(room, "content", 7);
            CHECK_EQ(FS(close, file), 0);
            check_text(names[i], "content");
#if !defined(_WIN32)
            CHECK_EQ(status_of(names[i]).st_mode & 07777, 0600);
#endif
        }
        CHECK_EQ(FS(scandir, ".", 0), 100);
        CHECK_EQ(FS(mkstemp, "missing/file-XXXXXX"), EVL_ENOENT);
    }
}

TEST(fs_templates_that_are_none) {
    static const char *const templates[] = {
        "",          "X",       "XXXXX",      "plain",  "XXXXXXx",
        "dir-XXXXX", "XXXXXX/", "XXXXXX.txt", "xxxxxx", "dir/XXXXXX/inner"};
    EACH_FORM {
        for (size_t i = 0; i < COUNT(templates); i++) {
            /* at once, or as the result */
            fs_begin();
            int result = evl_fs_mkdtemp(form_loop(), &fs, templates[i], how);
            CHECK_EQ(how == NULL || result != 0 ? result : fs_end(result), EVL_EINVAL);
            fs_begin();
            result = evl_fs_mkstemp(form_loop(), &fs, templates[i], how);
            CHECK_EQ(how == NULL || result != 0 ? result : fs_end(result), EVL_EINVAL);
        }
        CHECK_EQ(FS(scandir, ".", 0), 0);
    }
}

/* ---- Directories that are read ---------------------------------------------------------------- */

TEST(fs_scandir_of_an_empty_directory) {
    EACH_FORM {
        evl_dirent_t entry;
        CHECK_EQ(FS(scandir, ".", 0), 0);
        CHECK_EQ(evl_fs_scandir_next(&fs, &entry), EVL_EOF);
        CHECK_EQ(evl_fs_scandir_next(&fs, &entry), EVL_EOF);
        evl_fs_req_cleanup(&fs);
    }
}

TEST(fs_scandir_of_what_is_no_directory) {
    EACH_FORM {
        evl_dirent_t entry;
        put_text("file", "content");
        CHECK_EQ(FS(scandir, "file", 0), EVL_ENOTDIR);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_LT(evl_fs_scandir_next(&fs, &entry), 0);
        CHECK_EQ(FS(scandir, "missing", 0), EVL_ENOENT);
        CHECK_LT(evl_fs_scandir_next(&fs, &entry), 0);
        CHECK_EQ(FS(opendir, "file"), EVL_ENOTDIR);
        CHECK_PTR(fs.ptr, NULL);
        CHECK_EQ(FS(opendir, "missing"), EVL_ENOENT);
        CHECK_PTR(fs.ptr, NULL);
    }
}

TEST(fs_scandir_in_the_order_of_bytes) {
    static const char *const sorted[] = {
#if !defined(_WIN32) /* where they are the same as a and b */
        "A",
        "B",
#endif
        "_",
        "a",
        "a,",
        "a-",
        "a0",
        "aa",
        "ab",
        "b",
        "caf\xc3\xa9",
        "\xe6\x97\xa5"
    };
    static const evl_dirent_type_t types[] = {EVL_DIRENT_FILE, EVL_DIRENT_DIR};
    EACH_FORM {
        evl_dirent_t entry;
        for (size_t i = COUNT(sorted); i-- > 0;) {
            if (i % 2 == 1) {
                NOW(mkdir, sorted[i], 0755);
            } else {
                ssize_t file = NOW(open, sorted[i], EVL_FS_O_RDWR | EVL_FS_O_CREAT, 0644);
                CHECK_GE(file, 0);
                close_now((evl_file)file);
            }
        }
        CHECK_EQ(FS(scandir, ".", 0), COUNT(sorted));
        for (size_t i = 0; i < COUNT(sorted); i++) {
            CHECK_EQ(evl_fs_scandir_next(&fs, &entry), 0);
            CHECK_STR(entry.name, sorted[i]);
            if (entry.type != EVL_DIRENT_UNKNOWN)
                CHECK_EQ(entry.type, types[i % 2]);
        }
        CHECK_EQ(evl_fs_scandir_next(&fs, &entry), EVL_EOF);
    }
}

/* Entries of a directory, a few of which are directories. Most are links to some files: on a disk to
 * make a file takes its time. */
static void make_many(int count) {
    char name[32], first[32] = "";
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "many/entry-%04d", (i * 1999) % count);
        if (i % 100 == 0) {
            CHECK_EQ(NOW(mkdir, name, 0755), 0);
        } else if (i % 500 == 1 || NOW(link, first, name) != 0) {
            close_now(open_now(name, EVL_FS_O_RDWR | EVL_FS_O_CREAT));
            memcpy(first, name, sizeof(first));
        }
    }
}

TEST(fs_scandir_of_3000_entries) {
    enum { MANY = OS_STORM(3000) };
    static const char *names[MANY];
    static unsigned char is_dir[MANY];
    EACH_FORM {
        evl_dirent_t entry;
        char name[32];
        CHECK_EQ(NOW(mkdir, "many", 0755), 0);
        make_many(MANY);
        for (int i = 0; i < MANY; i++)
            is_dir[(i * 1999) % MANY] = i % 100 == 0;
        CHECK_EQ(FS(scandir, "many", 0), MANY);
        CHECK(fs.ptr != NULL);
        for (int i = 0; i < MANY; i++) {
            CHECK_EQ(evl_fs_scandir_next(&fs, &entry), 0);
            names[i] = entry.name;
            if (entry.type != EVL_DIRENT_UNKNOWN)
                CHECK_EQ(entry.type, is_dir[i] ? EVL_DIRENT_DIR : EVL_DIRENT_FILE);
        }
        CHECK_EQ(evl_fs_scandir_next(&fs, &entry), EVL_EOF);
        CHECK_EQ(fs.result, MANY);
        for (int i = 0; i < MANY; i++) { /* all are good until the cleanup */
            snprintf(name, sizeof(name), "entry-%04d", i);
            CHECK_STR(names[i], name);
        }
    }
}

/* What was not asked for goes with the request. */
TEST(fs_scandir_that_is_read_in_part) {
    EACH_FORM {
        evl_dirent_t entry;
        put_text("one", "");
        put_text("two", "");
        put_text("three", "");
        CHECK_EQ(FS(scandir, ".", 0), 3);
        CHECK_EQ(evl_fs_scandir_next(&fs, &entry), 0);
        CHECK_STR(entry.name, "one");
        evl_fs_req_cleanup(&fs);
        CHECK_LT(evl_fs_scandir_next(&fs, &entry), 0);
        CHECK_EQ(FS(scandir, ".", 0), 3);
    }
}

#define DIR_ENTRIES 23

static void make_entries(void) {
    char name[32];
    for (int i = 0; i < DIR_ENTRIES; i++) {
        snprintf(name, sizeof(name), "entry-%02d", i);
        if (i % 5 == 0)
            CHECK_EQ(NOW(mkdir, name, 0755), 0);
        else
            put_text(name, "");
    }
}

static evl_dir_t *open_dir(const char *path) {
    CHECK_EQ(FS(opendir, path), 0);
    evl_dir_t *dir = (evl_dir_t *)fs.ptr;
    CHECK(dir != NULL);
    return dir;
}

TEST(fs_readdir) {
    static const size_t sizes[] = {1, 2, 7, DIR_ENTRIES, DIR_ENTRIES + 1, 100};
    EACH_FORM {
        static evl_dirent_t entries[100];
        make_entries();
        for (size_t s = 0; s < COUNT(sizes); s++) {
            int seen[DIR_ENTRIES], total = 0;
            memset(seen, 0, sizeof(seen));
            evl_dir_t *dir = open_dir(".");
            dir->dirents = entries;
            dir->nentries = sizes[s];
            ssize_t count;
            while ((count = FS(readdir, dir)) > 0) {
                CHECK_LE(count, sizes[s]);
                /* as many as have room, while there are some */
                CHECK_EQ(count, sizes[s] < (size_t)(DIR_ENTRIES - total)
                                    ? (ssize_t)sizes[s]
                                    : (ssize_t)(DIR_ENTRIES - total));
                for (ssize_t i = 0; i < count; i++) {
                    CHECK_MEM(entries[i].name, "entry-", 6);
                    int number = atoi(entries[i].name + 6);
                    seen[number]++;
                    if (entries[i].type != EVL_DIRENT_UNKNOWN)
                        CHECK_EQ(entries[i].type,
                                 number % 5 == 0 ? EVL_DIRENT_DIR : EVL_DIRENT_FILE);
                }
                total += (int)count;
            }
            CHECK_EQ(count, 0);
            CHECK_EQ(total, DIR_ENTRIES);
            for (int i = 0; i < DIR_ENTRIES; i++)
                CHECK_EQ(seen[i], 1);
            CHECK_EQ(FS(readdir, dir), 0); /* the end stays the end */
            CHECK_EQ(FS(closedir, dir), 0);
            CHECK_EQ(fs.fs_type, EVL_FS_CLOSEDIR);
            CHECK_PTR(fs.ptr, NULL);
        }
    }
}

/* Each request has names of its own; those of the next do not end them. */
TEST(fs_readdir_names_live_until_the_cleanup) {
    static evl_fs_t reqs[DIR_ENTRIES];
    static evl_dirent_t entries[DIR_ENTRIES];
    EACH_FORM {
        make_entries();
        evl_dir_t *dir = open_dir(".");
        for (int i = 0; i < DIR_ENTRIES; i++) {
            dir->dirents = &entries[i];
            dir->nentries = 1;
            CHECK_EQ(evl_fs_readdir(NULL, &reqs[i], dir, NULL), 1);
        }
        int seen[DIR_ENTRIES];
        memset(seen, 0, sizeof(seen));
        for (int i = 0; i < DIR_ENTRIES; i++) {
            CHECK_MEM(entries[i].name, "entry-", 6);
            seen[atoi(entries[i].name + 6)]++;
        }
        for (int i = 0; i < DIR_ENTRIES; i++) {
            CHECK_EQ(seen[i], 1);
            evl_fs_req_cleanup(&reqs[i]);
            evl_fs_req_cleanup(&reqs[i]);
        }
        CHECK_EQ(FS(closedir, dir), 0);
    }
}

TEST(fs_readdir_of_many) {
    EACH_FORM {
        enum { MANY = OS_STORM(3000) };
        static evl_dirent_t entries[MANY + 1000];
        static unsigned char seen[MANY];
        CHECK_EQ(NOW(mkdir, "many", 0755), 0);
        make_many(MANY);
        memset(seen, 0, sizeof(seen));
        evl_dir_t *dir = open_dir("many");
        dir->dirents = entries;
        dir->nentries = MANY + 1000;
        CHECK_EQ(FS(readdir, dir), MANY);
        for (int i = 0; i < MANY; i++) {
            int number = atoi(entries[i].name + 6);
            CHECK_EQ(seen[number], 0);
            seen[number] = 1;
        }
        CHECK_EQ(FS(readdir, dir), 0);
        CHECK_EQ(FS(closedir, dir), 0);
    }
}

TEST(fs_readdir_of_an_empty_directory) {
    EACH_FORM {
        evl_dirent_t entry;
        evl_dir_t *dir = open_dir(".");
        dir->dirents = &entry;
        dir->nentries = 1;
        CHECK_EQ(FS(readdir, dir), 0);
        CHECK_EQ(FS(closedir, dir), 0);
        dir = open_dir("."); /* closed without a look */
        CHECK_EQ(FS(closedir, dir), 0);
    }
}

TEST(fs_readdir_without_room) {
    EACH_FORM {
        evl_dirent_t entry;
        put_text("file", "");
        evl_dir_t *dir = open_dir(".");
        dir->dirents = NULL;
        dir->nentries = 1;
        CHECK_EQ(REFUSED(readdir, dir), EVL_EINVAL);
        CHECK_EQ(REFUSED(readdir, NULL), EVL_EINVAL);
        CHECK_EQ(REFUSED(closedir, NULL), EVL_EINVAL);
        dir->dirents = &entry;
        dir->nentries = 0; /* at once, or as the result, but never an entry */
        fs_begin();
        int result = evl_fs_readdir(form_loop(), &fs, dir, how);
        if (how != NULL && result == 0)
            result = (int)fs_end(0);
        CHECK(result == 0 || result == EVL_EINVAL);
        dir->nentries = 1;
        CHECK_EQ(evl_fs_readdir(form_loop(), NULL, dir, how), EVL_EINVAL);
        CHECK_EQ(evl_fs_closedir(form_loop(), NULL, dir, how), EVL_EINVAL);
        CHECK_EQ(FS(readdir, dir), 1); /* nothing was lost */
        CHECK_STR(entry.name, "file");
        CHECK_EQ(FS(closedir, dir), 0);
    }
}

/* The cleanup of opendir's request leaves the directory. */
TEST(fs_opendir_outlives_its_request) {
    EACH_FORM {
        evl_dirent_t entry;
        put_text("file", "");
        evl_dir_t *dir = open_dir(".");
        evl_fs_req_cleanup(&fs);
        evl_fs_req_cleanup(&fs);
        CHECK_PTR(fs.ptr, NULL);
        dir->dirents = &entry;
        dir->nentries = 1;
        CHECK_EQ(FS(readdir, dir), 1);
        CHECK_EQ(FS(closedir, dir), 0);
    }
}

#if !defined(_WIN32)

TEST(fs_directory_that_goes_while_it_is_read) {
    EACH_FORM {
        static evl_dirent_t entries[10];
        CHECK_EQ(mkdir("dir", 0755), 0);
        for (int i = 0; i < 5; i++) {
            char name[16];
            snprintf(name, sizeof(name), "dir/%d", i);
            put_text(name, "");
        }
        evl_dir_t *dir = open_dir("dir");
        dir->dirents = entries;
        dir->nentries = 2;
        CHECK_EQ(FS(readdir, dir), 2);
        remove_tree("dir");
        dir->nentries = 10;
        ssize_t count = FS(readdir, dir); /* what the system had told before, or nothing */
        CHECK_GE(count, 0);
        CHECK_LE(count, 3);
        CHECK_EQ(FS(readdir, dir), 0);
        CHECK_EQ(FS(closedir, dir), 0);
        CHECK_EQ(mkdir("dir", 0755), 0);
        dir = open_dir("dir");
        dir->dirents = entries;
        dir->nentries = 2;
        CHECK_EQ(rmdir("dir"), 0);
        CHECK_EQ(FS(readdir, dir), 0);
        CHECK_EQ(FS(closedir, dir), 0);
    }
}

static evl_dirent_type_t expected_type(const char *name) {
    switch (name[0]) {
    case 'd':
        return EVL_DIRENT_DIR;
    case 'f':
        return EVL_DIRENT_FILE;
    case 'l':
        return EVL_DIRENT_LINK;
    case 'p':
        return EVL_DIRENT_FIFO;
    case 's':
        return EVL_DIRENT_SOCKET;
    default:
        return EVL_DIRENT_UNKNOWN;
    }
}

TEST(fs_types_of_entries) {
    EACH_FORM {
        evl_dirent_t entries[8];
        struct sockaddr_un name;
        int sock = socket(AF_UNIX, SOCK_STREAM, 0);
        memset(&name, 0, sizeof(name));
        name.sun_family = AF_UNIX;
        memcpy(name.sun_path, "socket", 7);
        CHECK_EQ(bind(sock, (struct sockaddr *)&name, sizeof(name)), 0);
        CHECK_EQ(close(sock), 0);
        CHECK_EQ(mkdir("dir", 0755), 0);
        put_text("file", "");
        CHECK_EQ(symlink("dir", "link"), 0);
        CHECK_EQ(mkfifo("pipe", 0600), 0);
        CHECK_EQ(FS(scandir, ".", 0), 5);
        for (int i = 0; i < 5; i++) {
            CHECK_EQ(evl_fs_scandir_next(&fs, &entries[0]), 0);
            if (entries[0].type != EVL_DIRENT_UNKNOWN)
                CHECK_EQ(entries[0].type, expected_type(entries[0].name));
        }
        evl_dir_t *dir = open_dir(".");
        dir->dirents = entries;
        dir->nentries = 8;
        CHECK_EQ(FS(readdir, dir), 5);
        for (int i = 0; i < 5; i++)
            if (entries[i].type != EVL_DIRENT_UNKNOWN)
                CHECK_EQ(entries[i].type, expected_type(entries[i].name));
        CHECK_EQ(FS(closedir, dir), 0);
#if defined(__linux__)
        CHECK_GT(FS(scandir, "/dev", 0), 0);
        while (evl_fs_scandir_next(&fs, &entries[0]) == 0)
            if (strcmp(entries[0].name, "null") == 0 && entries[0].type != EVL_DIRENT_UNKNOWN)
                CHECK_EQ(entries[0].type, EVL_DIRENT_CHAR);
#endif
    }
}

#endif

/* ---- What a file is --------------------------------------------------------------------------- */

TEST(fs_guess_handle) {
    evl_file ends[2];
    begin_async();
    CHECK_EQ(evl_guess_handle(-1), EVL_UNKNOWN_HANDLE);
    CHECK_EQ(evl_guess_handle(-100), EVL_UNKNOWN_HANDLE);
    CHECK_EQ(evl_guess_handle(closed_file()), EVL_UNKNOWN_HANDLE);
    CHECK_EQ(evl_guess_handle(1 << 20), EVL_UNKNOWN_HANDLE);
    evl_file file = open_now("file", EVL_FS_O_RDWR | EVL_FS_O_CREAT);
    CHECK_EQ(evl_guess_handle(file), EVL_FILE);
    close_now(file);
    os_pipe(ends);
    CHECK_EQ(evl_guess_handle(ends[0]), EVL_NAMED_PIPE);
    CHECK_EQ(evl_guess_handle(ends[1]), EVL_NAMED_PIPE);
    close_now(ends[0]);
    close_now(ends[1]);
    CHECK_EQ(evl_guess_handle(0), EVL_FILE); /* the null device */
    end_async();
}

#if !defined(_WIN32)

static void check_guess(int domain, int type, evl_handle_type expected) {
    int sock = socket(domain, type, 0);
    if (sock < 0) /* no such addresses here */
        return;
    CHECK_EQ(evl_guess_handle(sock), expected);
    CHECK_EQ(close(sock), 0);
}

TEST(fs_guess_handle_of_sockets) {
    evl_os_sock_t sockets[2];
    check_guess(AF_INET, SOCK_STREAM, EVL_TCP);
    check_guess(AF_INET6, SOCK_STREAM, EVL_TCP);
    check_guess(AF_INET, SOCK_DGRAM, EVL_UDP);
    check_guess(AF_INET6, SOCK_DGRAM, EVL_UDP);
    check_guess(AF_UNIX, SOCK_STREAM, EVL_NAMED_PIPE);
    check_guess(AF_UNIX, SOCK_DGRAM, EVL_UNKNOWN_HANDLE);
    os_socketpair(sockets);
    CHECK_EQ(evl_guess_handle(sockets[0]), EVL_NAMED_PIPE);
    os_close(sockets[0]);
    os_close(sockets[1]);
    os_tcp_pair(sockets);
    CHECK_EQ(evl_guess_handle(sockets[1]), EVL_TCP);
    os_close(sockets[0]);
    os_close(sockets[1]);
}

TEST(fs_guess_handle_of_devices) {
    evl_file dir = open_now("/", EVL_FS_O_RDONLY);
    evl_fs_req_cleanup(&now);
    CHECK_EQ(evl_guess_handle(dir), EVL_UNKNOWN_HANDLE);
    close_now(dir);
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0)
        SKIP("there are no terminals to have");
    CHECK_EQ(evl_guess_handle(terminal), EVL_TTY);
    CHECK_EQ(close(terminal), 0);
}

#endif

/* ---- More of copying: what must stay, what must go -------------------------------------------- */

#if !defined(_WIN32)

/* A failed copy removes the file that it has begun, nothing else. */
TEST(fs_copyfile_onto_a_pipe) {
    EACH_FORM {
        put_text("source", "content");
        CHECK_EQ(mkfifo("pipe", 0600), 0);
        evl_file pipe_end = open("pipe", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        CHECK_GE(pipe_end, 0);
        FS(copyfile, "source", "pipe", 0);
        CHECK_EQ(status_of("pipe").st_mode & S_IFMT, S_IFIFO);
        FS(copyfile, "source", "pipe", EVL_FS_COPYFILE_FICLONE_FORCE);
        CHECK_EQ(status_of("pipe").st_mode & S_IFMT, S_IFIFO);
        close_now(pipe_end);
    }
}

/* Who may write to a file may not always change its mode; that is no reason to remove it. */
TEST(fs_copyfile_onto_the_file_of_somebody_else) {
    EACH_FORM {
        if (geteuid() != 0)
            skip_files("only root can give a file away");
        FS(stat, "."); /* threads that start now are root as well */
        put_text("source", "content");
        CHECK_EQ(chmod("source", 0644), 0);
        CHECK_EQ(mkdir("dir", 0777), 0);
        CHECK_EQ(chmod("dir", 0777), 0);
        put_text("dir/target", "target");
        CHECK_EQ(chmod("dir/target", 0666), 0);
        become_nobody();
        ssize_t result = FS(copyfile, "source", "dir/target", 0);
        become_again();
        CHECK(result == 0 || result == EVL_EPERM);
        check_text("dir/target", result == 0 ? "content" : "target");
    }
}

#endif

/* Where the system has no call that copies, or it fails half-way. */
TEST(fs_copyfile_by_reading_and_writing) {
    enum { BYTES = 300001 };
    char *bytes = (char *)malloc(BYTES);
    CHECK(bytes != NULL);
    pattern(bytes, BYTES, 5);
    EACH_FORM {
        put("source", bytes, BYTES);
        put_text("copy", "old");
        test_fault_set("copy_file_range", 1, -1, EINVAL);
        test_short_set("write", 50000);
        test_short_set("read", 60001);
        CHECK_EQ(FS(copyfile, "source", "copy", 0), 0);
        check_file("copy", bytes, BYTES);
        put("source", "", 0);
        CHECK_EQ(FS(copyfile, "source", "copy", 0), 0);
        check_text("copy", "");
        test_fault_clear();
    }
    free(bytes);
}

#if defined(__linux__)

TEST(fs_copyfile_that_fails_half_way) {
    static const char *const names[] = {"write", "read"};
    static char bytes[300001];
    pattern(bytes, sizeof(bytes), 5);
    EACH_FORM {
        put("source", bytes, sizeof(bytes));
        for (size_t i = 0; i < COUNT(names); i++)
            for (long nth = 1; nth <= 3; nth++) {
                put_text("copy", "old");
                test_fault_set("copy_file_range", 1, -1, EXDEV);
                test_short_set("write", 50000);
                test_fault_set(names[i], nth, -1, ENOSPC);
                CHECK_EQ(FS(copyfile, "source", "copy", 0), EVL_ENOSPC);
                test_fault_clear();
                CHECK(!exists("copy"));
                check_file("source", bytes, sizeof(bytes));
            }
    }
}

TEST(fs_copyfile_without_shared_blocks) {
    EACH_FORM {
        put_text("source", "content");
        test_fault_set("ficlone", 1, -1, EOPNOTSUPP);
        CHECK_EQ(FS(copyfile, "source", "copy", EVL_FS_COPYFILE_FICLONE), 0);
        check_text("copy", "content");
        CHECK_EQ(test_fault_hits("ficlone"), 1);
        CHECK_EQ(FS(copyfile, "source", "new", EVL_FS_COPYFILE_FICLONE_FORCE), EVL_ENOTSUP);
        CHECK(!exists("new"));
        CHECK_EQ(test_fault_hits("ficlone"), 2);
        CHECK_EQ(FS(copyfile, "source", "new", 0), 0); /* does not ask for it */
        CHECK_EQ(test_fault_hits("ficlone"), 2);
        test_fault_clear();
    }
}

TEST(fs_sendfile_by_reading_and_writing) {
    static char bytes[200000];
    pattern(bytes, sizeof(bytes), 9);
    EACH_FORM {
        put("source", bytes, sizeof(bytes));
        evl_file in = open_now("source", EVL_FS_O_RDONLY), out = create("out");
        test_fault_set("sendfile", 1, -1, EINVAL);
        test_short_set("write", 30000);
        CHECK_EQ(FS(sendfile, out, in, 1000, 150000), 150000);
        check_file("out", bytes + 1000, 150000);
        CHECK_EQ(position_of(in), 0);
        CHECK_EQ(FS(sendfile, out, in, -1, 70000), 70000);
        CHECK_EQ(position_of(in), 70000);
        CHECK_EQ(FS(sendfile, out, in, 199999, 70000), 1);
        CHECK_EQ(FS(sendfile, out, in, 200000, 70000), 0);
        test_fault_set("write", 1, -1, ENOSPC);
        CHECK_EQ(FS(sendfile, out, in, 0, 70000), EVL_ENOSPC);
        test_fault_set("write", 2, 1, EAGAIN); /* there is room by the time it looks */
        CHECK_EQ(FS(sendfile, out, in, 0, 70000), 70000);
        CHECK_EQ(test_fault_hits("write"), 1);
        /* what was copied before an error counts, and no more than that was taken */
        test_fault_set("write", 3, -1, ENOSPC);
        seek_to(in, 10);
        CHECK_EQ(FS(sendfile, out, in, -1, 150000), 60000);
        CHECK_EQ(position_of(in), 60010);
        test_fault_clear();
        CHECK_EQ(status_of("out").st_size, 150000 + 70000 + 1 + 70000 + 60000);
        close_now(in);
        close_now(out);
    }
}

TEST(fs_sendfile_interrupted) {
    EACH_FORM {
        put_text("source", "0123456789");
        evl_file in = open_now("source", EVL_FS_O_RDONLY), out = create("out");
        test_fault_set("sendfile", 1, 3, EINTR);
        CHECK_EQ(FS(sendfile, out, in, 2, 5), 5);
        CHECK_EQ(test_fault_hits("sendfile"), 3);
        test_fault_clear();
        check_text("out", "23456");
        close_now(in);
        close_now(out);
    }
}

/* Old kernels do not have the call, some sandboxes forbid it. */
TEST(fs_stat_without_statx) {
    static const int errors[] = {EPERM, ENOSYS};
    EACH_FORM {
        put_text("file", "content");
        CHECK_EQ(symlink("file", "link"), 0);
        evl_file file = open_now("file", EVL_FS_O_RDONLY);
        evl_stat_t with = status_of("file");
        for (size_t i = 0; i < COUNT(errors); i++) {
            test_fault_set("statx", 1, -1, errors[i]);
            CHECK_EQ(FS(stat, "link"), 0);
            CHECK_PTR(fs.ptr, &fs.statbuf);
            fs.statbuf.st_birthtim = with.st_birthtim;
            CHECK_MEM(&fs.statbuf, &with, sizeof(with));
            CHECK_EQ(FS(lstat, "link"), 0);
            CHECK_EQ(fs.statbuf.st_mode & S_IFMT, S_IFLNK);
            CHECK_EQ(FS(fstat, file), 0);
            CHECK_MEM(&fs.statbuf.st_birthtim, &fs.statbuf.st_ctim, sizeof(evl_timespec_t));
            CHECK_EQ(FS(stat, "missing"), EVL_ENOENT);
            CHECK_PTR(fs.ptr, NULL);
            CHECK_EQ(FS(fstat, closed_file()), EVL_EBADF);
            test_fault_clear();
        }
        close_now(file);
    }
}

TEST(fs_reading_of_a_directory_fails) {
    EACH_FORM {
        evl_dirent_t entries[4];
        put_text("one", "");
        put_text("two", "");
        test_fault_set("getdents", 1, 2, EINTR);
        CHECK_EQ(FS(scandir, ".", 0), 2);
        for (long nth = 1; nth <= 2; nth++) {
            test_fault_set("getdents", nth, -1, EIO);
            CHECK_EQ(FS(scandir, ".", 0), EVL_EIO); /* and not the part that was read */
            CHECK_PTR(fs.ptr, NULL);
        }
        test_fault_set("getdents", 1, 1, EIO);
        evl_dir_t *dir = open_dir(".");
        dir->dirents = entries;
        dir->nentries = 4;
        CHECK_EQ(FS(readdir, dir), EVL_EIO);
        CHECK_EQ(FS(readdir, dir), 2);
        test_fault_clear();
        CHECK_EQ(FS(closedir, dir), 0);
    }
}

#endif

/* ---- Faults of the system --------------------------------------------------------------------- */

TEST(fs_write_in_small_parts) {
    EACH_FORM {
        static char bytes[50], found[50];
        evl_buf_t bufs[3];
        pattern(bytes, sizeof(bytes), 0);
        for (int64_t offset = -1; offset <= 0; offset++)
            for (size_t most = 1; most < 20; most++) {
                evl_file file = open_empty();
                bufs[0] = evl_buf_init(bytes, 20);
                bufs[1] = evl_buf_init(bytes + 20, 5);
                bufs[2] = evl_buf_init(bytes + 25, 25);
                test_short_set("write", most);
                test_fault_set("write", 2, 3, EINTR);
                CHECK_EQ(FS(write, file, bufs, 3, offset), 50);
                CHECK_EQ(test_fault_hits("write"), 3);
                test_fault_clear();
                CHECK_EQ(position_of(file), offset < 0 ? 50 : 0);
                close_now(file);
                check_file("data", bytes, 50);
                CHECK_EQ(bufs[0].len, 20); /* the array is the caller's */
                CHECK_PTR(bufs[2].base, bytes + 25);

                memset(found, '-', sizeof(found));
                file = open_now("data", EVL_FS_O_RDONLY);
                bufs[0] = evl_buf_init(found, 20);
                bufs[1] = evl_buf_init(found + 20, 30);
                test_short_set("read", most);
                test_fault_set("read", 1, 2, EINTR);
                ssize_t got = FS(read, file, bufs, 2, offset);
                CHECK_GE(got, most);
                CHECK_EQ(test_fault_hits("read"), 2);
                test_fault_clear();
                CHECK_MEM(found, bytes, got);
                for (size_t i = (size_t)got; i < sizeof(found); i++)
                    CHECK_EQ(found[i], '-');
                CHECK_EQ(position_of(file), offset < 0 ? got : 0);
                close_now(file);
            }
    }
}

TEST(fs_write_and_read_fail_half_way) {
    EACH_FORM {
        static char bytes[50];
        pattern(bytes, sizeof(bytes), 0);
        evl_file file = open_empty();
        evl_buf_t buf = evl_buf_init(bytes, 50);
        test_short_set("write", 7);
        test_fault_set("write", 1, -1, EACCES);
        CHECK_EQ(FS(write, file, &buf, 1, 0), EVL_EACCES);
        CHECK_EQ(status_of("data").st_size, 0);
        test_fault_set("write", 3, -1, EACCES);
        CHECK_EQ(FS(write, file, &buf, 1, 0), 14);
        CHECK_EQ(FS(write, file, &buf, 1, -1), EVL_EACCES);
        test_fault_clear();
        check_file("data", bytes, 14);
        test_fault_set("read", 1, 1, EACCES);
        buf = evl_buf_init(room, 50);
        CHECK_EQ(FS(read, file, &buf, 1, 0), EVL_EACCES);
        CHECK_EQ(FS(read, file, &buf, 1, 0), 14);
        test_fault_clear();
        close_now(file);
    }
}

static const char *fault_name(const char *call) {
    static char name[32];
    snprintf(name, sizeof(name), "fs_%s", call);
    return name;
}

/* What the system reports becomes the result, and nothing has been done. */
TEST(fs_every_call_reports_errors) {
    EACH_FORM {
        make_things();
        for (size_t i = 0; i < PATH_CALLS; i++) {
            const path_call_t *call = &path_calls[i];
            test_fault_set(fault_name(call->name), 1, 1, EACCES);
            CHECK_EQ(path_call(call, call->path, call->new_path), EVL_EACCES);
            CHECK_EQ(test_fault_hits(fault_name(call->name)), 1);
            CHECK_EQ(fs.fs_type, call->type);
            CHECK_PTR(fs.ptr, NULL);
            test_fault_clear();
        }
        open_source();
        for (size_t i = 0; i < FILE_CALLS; i++) {
            const file_call_t *call = &file_calls[i];
            test_fault_set(fault_name(call->name), 1, 1, EACCES);
            CHECK_EQ(file_call(call, source), EVL_EACCES);
            CHECK_EQ(test_fault_hits(fault_name(call->name)), 1);
            test_fault_clear();
        }
        CHECK(exists("file"));
        CHECK(exists("dir"));
        CHECK(!exists("new"));
        close_now(source);
        os_chdir("..");
    }
}

#if !defined(_WIN32)

TEST(fs_every_call_goes_on_when_interrupted) {
    EACH_FORM {
        for (size_t i = 0; i < PATH_CALLS; i++) {
            const path_call_t *call = &path_calls[i];
            make_things();
            test_fault_set(fault_name(call->name), 1, 3, EINTR);
            path_call(call, call->path, call->new_path);
            CHECK_EQ(test_fault_hits(fault_name(call->name)), 3);
            test_fault_clear();
            check_result(call, call->path);
            close_result(&fs);
            os_chdir("..");
        }
        open_source();
        for (size_t i = 0; i < FILE_CALLS; i++) {
            const file_call_t *call = &file_calls[i];
            put_text("file", "content");
            evl_file file = open_now("file", EVL_FS_O_RDWR);
            test_fault_set(fault_name(call->name), 1, 3, EINTR);
            CHECK_EQ(file_call(call, file), call->result);
            CHECK_EQ(test_fault_hits(fault_name(call->name)), 3);
            test_fault_clear();
            if (call->type != EVL_FS_CLOSE)
                close_now(file);
        }
        close_now(source);
    }
}

#endif

/* ---- Without memory --------------------------------------------------------------------------- */

/* Long enough to need memory of its own. */
static const char *long_form(const char *path, int which) {
    static char texts[2][256];
    char *made = texts[which];
    if (path == NULL)
        return NULL;
    made[0] = '\0';
    while (strlen(made) + strlen(path) < 200)
        strcat(made, "./");
    return strcat(made, path);
}

/* The pool has a single thread, which allocates nothing more once it has run. */
static void warm_up(void) {
    os_setenv("EVLOOP_THREADPOOL_SIZE", "1");
    for (int i = 0; i < 20; i++)
        FS(stat, ".");
    evl_fs_req_cleanup(&fs);
    evl_fs_req_cleanup(&now);
}

/* Whether the call, started without memory, has failed for that reason and left nothing behind. */
static int failed_without_memory(int started, long live, int open) {
    ssize_t result = started;
    if (how != NULL && started == 0)
        result = fs_end(0);
    test_alloc_fail(0, 0);
    if (result != EVL_ENOMEM)
        return 0;
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_PTR(fs.ptr, NULL);
    evl_fs_req_cleanup(&fs);
    CHECK_EQ(test_alloc_live(), live);
    CHECK_EQ(test_open_fds(), open);
    return 1;
}

TEST(fs_paths_without_memory) {
    EACH_FORM {
        warm_up();
        for (size_t i = 0; i < PATH_CALLS; i++)
            for (int times = -1; times <= 1; times += 2) {
                const path_call_t *call = &path_calls[i];
                int failed = 1;
                long nth = 0;
                while (failed) {
                    make_things();
                    CHECK_EQ(NOW(scandir, ".", 0), PATH_CALLS == ANYWHERE_CALLS ? 2 : 3);
                    evl_fs_req_cleanup(&now);
                    const char *path =
                        call->type == EVL_FS_SYMLINK ? call->path : long_form(call->path, 0);
                    const char *new_path = long_form(call->new_path, 1);
                    fs_begin();
                    long live = test_alloc_live();
                    int open = test_open_fds();
                    CHECK_LT(++nth, 20);
                    test_alloc_fail(nth, times);
                    int started = call->start(form_loop(), &fs, path, new_path, how);
                    failed = failed_without_memory(started, live, open);
                    if (failed) {
                        CHECK_EQ(NOW(scandir, ".", 0), PATH_CALLS == ANYWHERE_CALLS ? 2 : 3);
                        check_text("file", "content");
                    } else {
                        check_result(call, path);
                        close_result(&fs);
                    }
                    evl_fs_req_cleanup(&now);
                    os_chdir("..");
                }
                if (how != NULL) /* the path was copied */
                    CHECK_GT(nth, 1);
            }
    }
}

TEST(fs_many_buffers_without_memory) {
    static evl_buf_t bufs[6];
    EACH_FORM {
        evl_file file = open_empty();
        warm_up();
        for (int i = 0; i < 6; i++)
            bufs[i] = buf_of(&"abcdef"[i], 1);
        for (int writes = 1; writes >= 0; writes--) {
            evl_fs_req_cleanup(&fs);
            long nth = 0, live = test_alloc_live();
            int failed = 1, open = test_open_fds();
            while (failed) {
                CHECK_LT(++nth, 20);
                fs_begin();
                test_alloc_fail(nth, -1);
                int started = writes ? evl_fs_write(form_loop(), &fs, file, bufs, 6, 0, how)
                                     : evl_fs_read(form_loop(), &fs, file, bufs, 6, 0, how);
                failed = failed_without_memory(started, live, open);
            }
            CHECK_EQ(fs.result, 6);
            for (int i = 0; i < 6; i++)
                bufs[i] = evl_buf_init(room + i, 1);
        }
        CHECK_MEM(room, "abcdef", 6);
        close_now(file);
        check_text("data", "abcdef");
    }
}

TEST(fs_readdir_without_memory) {
    EACH_FORM {
        static evl_dirent_t entries[DIR_ENTRIES];
        long nth = 0;
        int failed = 1;
        make_entries();
        warm_up();
        evl_dir_t *dir = open_dir(".");
        dir->dirents = entries;
        dir->nentries = DIR_ENTRIES;
        while (failed) {
            fs_begin();
            long live = test_alloc_live();
            int open = test_open_fds();
            CHECK_LT(++nth, 20);
            test_alloc_fail(nth, -1);
            int started = evl_fs_readdir(form_loop(), &fs, dir, how);
            ssize_t result = how == NULL ? started : fs_end(started);
            test_alloc_fail(0, 0);
            failed = result == EVL_ENOMEM;
            if (failed) {
                evl_fs_req_cleanup(&fs);
                CHECK_EQ(test_alloc_live(), live);
                CHECK_EQ(test_open_fds(), open);
            }
        }
        CHECK_GT(nth, 1);
        CHECK_EQ(fs.result, DIR_ENTRIES); /* no entry was lost */
        test_alloc_fail(1, -1);
        ssize_t result = FS(closedir, dir);
        test_alloc_fail(0, 0);
        CHECK_EQ(result, 0);
    }
}

/* Names that fill their memory to the last byte, and then need more. */
TEST(fs_directories_of_long_names) {
    enum { MANY = 150 };
    static evl_dirent_t entries[MANY + 1];
    static char name[256];
    EACH_FORM {
        evl_dirent_t entry;
        CHECK_EQ(NOW(mkdir, "dir", 0755), 0);
        os_chdir("dir");
        for (int i = 0; i < MANY; i++) {
            memset(name, 'n', sizeof(name));
            snprintf(name, 5, "%04d", i);
            name[4] = 'n';
            name[i % 2 == 0 ? 255 : 255 - i] = '\0';
            close_now(open_now(name, EVL_FS_O_RDWR | EVL_FS_O_CREAT));
        }
        CHECK_EQ(FS(scandir, ".", 0), MANY);
        for (int i = 0; i < MANY; i++) {
            CHECK_EQ(evl_fs_scandir_next(&fs, &entry), 0);
            CHECK_EQ(atoi(entry.name), i);
            CHECK_EQ(strlen(entry.name), i % 2 == 0 ? 255 : 255 - i);
        }
        evl_dir_t *dir = open_dir(".");
        dir->dirents = entries;
        dir->nentries = MANY + 1;
        CHECK_EQ(FS(readdir, dir), MANY);
        for (int i = 0; i < MANY; i++) {
            int number = atoi(entries[i].name);
            CHECK_EQ(strlen(entries[i].name), number % 2 == 0 ? 255 : 255 - number);
        }
        CHECK_EQ(FS(closedir, dir), 0);
        os_chdir("..");
    }
}

TEST(fs_short_paths_and_few_buffers_allocate_nothing) {
    static char path[64];
    EACH_FORM {
        memset(path, 'p', 63);
        evl_buf_t bufs[4], sources[4];
        static char bytes[64], found[64];
        pattern(bytes, sizeof(bytes), 0);
        for (int i = 0; i < 4; i++) {
            sources[i] = evl_buf_init(bytes + 16 * i, 16);
            bufs[i] = evl_buf_init(found + 16 * i, 16);
        }
        put_text(path, "content");
        put_text("one", "content");
        evl_file file = open_empty();
        warm_up();
        size_t before = test_alloc_calls();
        for (int i = 0; i < 100; i++) {
            CHECK_EQ(FS(write, file, sources, 4, 0), 64);
            CHECK_EQ(FS(read, file, bufs, 4, 0), 64);
            CHECK_EQ(FS(stat, path), 0);
            CHECK_EQ(FS(lstat, path), 0);
            CHECK_EQ(FS(fstat, file), 0);
            CHECK_EQ(FS(access, path, 0), 0);
            CHECK_EQ(FS(rename, "one", path + 4), 0); /* two paths, with their ends 64 bytes */
            CHECK_EQ(FS(rename, path + 4, "one"), 0);
            evl_file again = (evl_file)FS(open, path, EVL_FS_O_RDONLY, 0);
            CHECK_EQ(FS(close, again), 0);
        }
        CHECK_EQ(test_alloc_calls(), before);
        CHECK_MEM(found, bytes, sizeof(bytes));
        close_now(file);
    }
}

/* What a request keeps in itself ends with it. */
TEST(fs_arguments_stay_within_the_request) {
    static struct {
        evl_fs_t req;
        char guard[64];
    } held;
    static char path[100], guard[64];
    evl_buf_t bufs[6];
    begin_async();
    evl_file file = open_empty();
    for (int i = 0; i < 6; i++)
        bufs[i] = evl_buf_init(room, 1);
    memset(guard, 'g', sizeof(guard));
    memset(held.guard, 'g', sizeof(guard));
    for (unsigned length = 1; length < 80; length++) {
        memset(path, 'p', sizeof(path));
        path[length] = '\0';
        held.req.data = &held.req;
        left = 4;
        evl_fs_t *req = (evl_fs_t *)malloc(sizeof(*req)); /* where the sanitizer looks */
        CHECK(req != NULL);
        CHECK_EQ(evl_fs_stat(&loop, req, path, free_request), 0);
        req = (evl_fs_t *)malloc(sizeof(*req));
        CHECK(req != NULL);
        CHECK_EQ(evl_fs_rename(&loop, req, path, path + length / 2, free_request), 0);
        req = (evl_fs_t *)malloc(sizeof(*req));
        CHECK(req != NULL);
        CHECK_EQ(evl_fs_read(&loop, req, file, bufs, 1 + length % 6, 0, free_request), 0);
        req = (evl_fs_t *)malloc(sizeof(*req));
        CHECK(req != NULL);
        CHECK_EQ(evl_fs_mkdtemp(&loop, req, path, free_request), 0);
        CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
        CHECK_EQ(left, 0);
        CHECK_EQ(evl_fs_stat(&loop, &held.req, path, evl_fs_req_cleanup), 0);
        CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
        CHECK_EQ(evl_fs_rename(&loop, &held.req, path, path + length / 2, evl_fs_req_cleanup), 0);
        CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
        CHECK_EQ(evl_fs_read(&loop, &held.req, file, bufs, 1 + length % 6, 0, evl_fs_req_cleanup),
                 0);
        CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
        CHECK_MEM(held.guard, guard, sizeof(guard));
    }
    close_now(file);
    end_async();
}

/* ---- Cancelling ------------------------------------------------------------------------------- */

#if !defined(EVLOOP_NO_THREADS)

static evl_pool_t pool;
static evl_pool_options_t pool_options;
static os_sem_t begun, gate;
static evl_work_t holders[4];

static void hold(evl_work_t *req) {
    (void)req;
    os_sem_post(&begun);
    os_sem_wait(&gate);
}

static void open_pool(unsigned threads) {
    pool_options.threads = threads;
    CHECK_EQ(evl_pool_init(&pool, &pool_options), 0);
    CHECK_EQ(evl_loop_set_pool(&loop, &pool), 0);
}

static void close_pool(void) {
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_loop_set_pool(&loop, NULL), 0);
    CHECK_EQ(evl_pool_close(&pool), 0);
}

/* Has as many threads of the loop's pool wait at the gate. */
static void occupy(int count) {
    os_sem_init(&begun);
    os_sem_init(&gate);
    for (int i = 0; i < count; i++)
        CHECK_EQ(evl_queue_work(&loop, &holders[i], hold, NULL), 0);
    for (int i = 0; i < count; i++)
        os_sem_wait(&begun);
}

static void open_gate(int count) {
    for (int i = 0; i < count; i++)
        os_sem_post(&gate);
}

#else

/* Without threads what is queued waits for the loop. */
static void open_pool(unsigned threads) {
    (void)threads;
}

static void close_pool(void) {}

static void occupy(int count) {
    (void)count;
}

static void open_gate(int count) {
    (void)count;
}

#endif

static int cancelled;

static void on_cancelled(evl_fs_t *req) {
    CHECK_EQ(req->result, EVL_ECANCELED);
    CHECK_EQ(evl_fs_get_result(req), EVL_ECANCELED);
    CHECK_EQ(evl_cancel((evl_req_t *)req), EVL_EBUSY);
    (*(int *)req->data)++;
    cancelled++;
}

TEST(fs_cancel_of_what_waits) {
    static evl_fs_t reqs[COUNT(path_calls) + COUNT(file_calls)];
    static int called[COUNT(path_calls) + COUNT(file_calls)];
    evl_dirent_t entry;
    size_t count = 0;
    begin_async();
    open_pool(1);
    make_things();
    open_source();
    evl_dir_t *dir = open_dir(".");
    dir->dirents = &entry;
    dir->nentries = 1;
    CHECK_EQ(NOW(scandir, ".", 0), PATH_CALLS == ANYWHERE_CALLS ? 3 : 4);
    evl_stat_t before = status_of("file"), source_before = status_of("source");
    occupy(1);
    for (size_t i = 0; i < PATH_CALLS; i++, count++) {
        const path_call_t *call = &path_calls[i];
        memset(&reqs[count], 0xa5, sizeof(reqs[count]));
        reqs[count].data = &called[count];
        CHECK_EQ(call->start(&loop, &reqs[count],
                             i % 2 == 0 || call->type == EVL_FS_SYMLINK ? call->path
                                                                        : long_form(call->path, 0),
                             call->new_path, on_cancelled),
                 0);
    }
    for (size_t i = 0; i < FILE_CALLS; i++, count++) {
        memset(&reqs[count], 0xa5, sizeof(reqs[count]));
        reqs[count].data = &called[count];
        CHECK_EQ(file_calls[i].start(&loop, &reqs[count], source, on_cancelled), 0);
    }
    static evl_fs_t reads[2];
    static int read_called[2];
    reads[0].data = &read_called[0];
    reads[1].data = &read_called[1];
    CHECK_EQ(evl_fs_readdir(&loop, &reads[0], dir, on_cancelled), 0);
    CHECK_EQ(evl_fs_closedir(&loop, &reads[1], dir, on_cancelled), 0);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(evl_cancel((evl_req_t *)&reqs[i]), 0);
        CHECK_EQ(evl_cancel((evl_req_t *)&reqs[i]), EVL_EBUSY);
    }
    for (int i = 0; i < 2; i++)
        CHECK_EQ(evl_cancel((evl_req_t *)&reads[i]), 0);
    CHECK_EQ(cancelled, 0); /* not before the loop runs */
    CHECK_EQ(evl_loop_alive(&loop), 1);
    while (cancelled < (int)count + 2)
        CHECK_GE(evl_run(&loop, EVL_RUN_ONCE), 0); /* nor need a thread come free */
    open_gate(1);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(called[i], 1);
        CHECK_PTR(reqs[i].ptr, NULL);
        if (i < PATH_CALLS)
            CHECK_EQ(strlen(reqs[i].path), i % 2 == 0 || path_calls[i].type == EVL_FS_SYMLINK
                                               ? strlen(path_calls[i].path)
                                               : strlen(long_form(path_calls[i].path, 0)));
        evl_fs_req_cleanup(&reqs[i]);
        evl_fs_req_cleanup(&reqs[i]);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(read_called[i], 1);
        evl_fs_req_cleanup(&reads[i]);
    }
    /* all is as it was */
    CHECK_EQ(NOW(scandir, ".", 0), PATH_CALLS == ANYWHERE_CALLS ? 3 : 4);
    evl_stat_t after = status_of("file"), source_after = status_of("source");
    CHECK_MEM(&after.st_mtim, &before.st_mtim, sizeof(before.st_mtim));
    CHECK_EQ(after.st_mode, before.st_mode);
    CHECK_EQ(after.st_nlink, 1);
    CHECK_MEM(&source_after.st_mtim, &source_before.st_mtim, sizeof(before.st_mtim));
    check_text("file", "content");
    check_text("source", "source");
    CHECK(exists("dir"));
    CHECK_EQ(FS(readdir, dir), 1);
    CHECK_EQ(FS(closedir, dir), 0);
    close_now(source);
    os_chdir("..");
    close_pool();
    end_async();
}

static void cancel_too_late(evl_fs_t *req) {
    CHECK_EQ(evl_cancel((evl_req_t *)req), EVL_EBUSY);
    CHECK_EQ(req->result, 0);
    calls++;
}

TEST(fs_cancel_of_what_is_done) {
    begin_async();
    put_text("file", "content");
    fs_begin();
    CHECK_EQ(evl_fs_stat(&loop, &fs, "file", cancel_too_late), 0);
    CHECK_EQ(fs_end(0), 0);
    CHECK_EQ(evl_cancel((evl_req_t *)&fs), EVL_EBUSY);
    CHECK_EQ(evl_loop_alive(&loop), 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(fs.result, 0);
    end_async();
}

/* One that was done at once has never been in a pool. */
TEST(fs_cancel_of_what_was_done_at_once) {
    evl_fs_t req;
    begin_async();
    for (int fill = 0; fill < 256; fill += 0x55) {
        memset(&req, fill, sizeof(req));
        CHECK_EQ(evl_fs_stat(NULL, &req, ".", NULL), 0);
        CHECK_EQ(evl_cancel((evl_req_t *)&req), EVL_EBUSY);
        CHECK_EQ(req.result, 0);
        evl_fs_req_cleanup(&req);
    }
    end_async();
}

static int destroyed_calls;

static void on_destroyed(evl_fs_t *req) {
    CHECK(req->result == 0 || req->result == EVL_ECANCELED);
    evl_fs_req_cleanup(req);
    destroyed_calls++;
}

TEST(fs_loop_destroyed_with_requests) {
    static evl_fs_t reqs[40];
    begin_async();
    for (size_t i = 0; i < COUNT(reqs); i++)
        CHECK_EQ(evl_fs_stat(&loop, &reqs[i], i % 2 == 0 ? "." : long_form(".", 0), on_destroyed),
                 0);
    CHECK_EQ(evl_loop_destroy(&loop, 5000), 0);
    CHECK_EQ(destroyed_calls, COUNT(reqs));
    CHECK_EQ(evl_loop_init(&loop), 0); /* for the end of the test */
    end_async();
}

#if !defined(EVLOOP_NO_THREADS)

/* ---- Threads ---------------------------------------------------------------------------------- */

TEST(fs_cancel_of_what_runs) {
    evl_file ends[2];
    begin_async();
    open_pool(1);
    os_pipe(ends);
    one_buf = evl_buf_init(room, 10);
    test_fault_set("fs_read", 0, 0, 0); /* counts what has begun */
    fs_begin();
    CHECK_EQ(evl_fs_read(&loop, &fs, ends[0], &one_buf, 1, -1, on_fs), 0);
    while (test_fault_calls("fs_read") == 0)
        test_sleep_ms(1);
    test_fault_clear();
    CHECK_EQ(evl_cancel((evl_req_t *)&fs), EVL_EBUSY);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1);
    CHECK_EQ(calls, 0);
    CHECK_EQ(os_file_write(ends[1], "content", 7), 7);
    CHECK_EQ(fs_end(0), 7);
    close_now(ends[0]);
    close_now(ends[1]);
    close_pool();
    end_async();
}

/* What does not fit in the queue is refused, and keeps nothing. */
TEST(fs_queue_that_is_full) {
    static evl_fs_t refused;
    begin_async();
    pool_options.max_queue = 1;
    open_pool(1);
    occupy(1);
    fs_begin();
    CHECK_EQ(evl_fs_stat(&loop, &fs, ".", on_fs), 0);
    long live = test_alloc_live();
    for (size_t i = 0; i < PATH_CALLS; i++) {
        memset(&refused, 0xa5, sizeof(refused));
        CHECK_EQ(path_calls[i].start(&loop, &refused, long_form("new-XXXXXX", 0),
                                     long_form("new", 1), never_fs),
                 EVL_ENOBUFS);
        CHECK_PTR(refused.ptr, NULL);
        CHECK_PTR(refused.path, NULL);
        CHECK_EQ(test_alloc_live(), live);
        evl_fs_req_cleanup(&refused);
    }
    evl_buf_t bufs[8];
    for (int i = 0; i < 8; i++)
        bufs[i] = evl_buf_init(room, 1);
    CHECK_EQ(evl_fs_write(&loop, &refused, 1, bufs, 8, 0, never_fs), EVL_ENOBUFS);
    evl_fs_req_cleanup(&refused);
    CHECK_EQ(test_alloc_live(), live);
    CHECK_EQ(evl_fs_stat(&loop, &refused, ".", NULL), 0); /* which needs no queue */
    evl_fs_req_cleanup(&refused);
    open_gate(1);
    CHECK_EQ(fs_end(0), 0);
    close_pool();
    end_async();
}

TEST(fs_pool_of_one_thread_works_in_order) {
    static evl_fs_t reqs[200];
    static char bytes[200];
    begin_async();
    open_pool(1);
    evl_file file = open_empty();
    pattern(bytes, sizeof(bytes), 0);
    for (size_t i = 0; i < COUNT(reqs); i++) {
        evl_buf_t buf = evl_buf_init(bytes + i, 1);
        reqs[i].data = &reqs[i];
        CHECK_EQ(evl_fs_write(&loop, &reqs[i], file, &buf, 1, -1, evl_fs_req_cleanup), 0);
    }
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    close_now(file);
    check_file("data", bytes, sizeof(bytes));
    close_pool();
    end_async();
}

static void nap(evl_work_t *req) {
    (void)req;
    test_sleep_ms(200);
}

/* Work that takes long keeps files waiting, where they share a pool … */
TEST(fs_stat_behind_long_work) {
    begin_async();
    os_setenv("EVLOOP_THREADPOOL_SIZE", NULL);
    uint64_t start = test_ns();
    for (int i = 0; i < 4; i++)
        CHECK_EQ(evl_queue_work(&loop, &holders[i], nap, NULL), 0);
    fs_begin();
    CHECK_EQ(evl_fs_stat(&loop, &fs, ".", on_fs), 0);
    while (calls == 0)
        CHECK_GE(evl_run(&loop, EVL_RUN_ONCE), 0);
    CHECK_GE(test_ns() - start, 195 * MS);
    CHECK_EQ(fs.result, 0);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    end_async();
}

/* … and not where the loop has a pool of its own: here the work even ends after it. */
TEST(fs_stat_beside_long_work) {
    static evl_loop_t other;
    begin_async();
    os_setenv("EVLOOP_THREADPOOL_SIZE", NULL);
    occupy(4);
    CHECK_EQ(evl_loop_init(&other), 0);
    pool_options.threads = 1;
    CHECK_EQ(evl_pool_init(&pool, &pool_options), 0);
    CHECK_EQ(evl_loop_set_pool(&other, &pool), 0);
    for (int i = 0; i < 10; i++) {
        evl_fs_req_cleanup(&fs);
        left = 1;
        evl_fs_t *req = (evl_fs_t *)malloc(sizeof(*req));
        CHECK(req != NULL);
        CHECK_EQ(evl_fs_stat(&other, req, ".", free_request), 0);
        CHECK_EQ(evl_run(&other, EVL_RUN_DEFAULT), 0);
        CHECK_EQ(left, 0);
    }
    /* and the default pool is still taken */
    fs_begin();
    CHECK_EQ(evl_fs_stat(&loop, &fs, ".", on_fs), 0);
    test_sleep_ms(20);
    CHECK_EQ(evl_run(&loop, EVL_RUN_NOWAIT), 1);
    CHECK_EQ(calls, 0);
    open_gate(4);
    CHECK_EQ(evl_run(&loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(calls, 1);
    CHECK_EQ(evl_loop_close(&other), 0);
    CHECK_EQ(evl_pool_close(&pool), 0);
    end_async();
}

/* A file's life, step by step, each from the callback of the last. */
typedef struct {
    evl_fs_t req;
    evl_loop_t *loop;
    evl_file file;
    int step, rounds, thread;
    char name[32], other[96], bytes[32];
} life_t;

static void live(evl_fs_t *req) {
    life_t *life = (life_t *)req->data;
    ssize_t result = req->result;
    evl_buf_t buf;
    evl_fs_req_cleanup(req);
    switch (life->step++) {
    case 0:
        snprintf(life->name, sizeof(life->name), "file-%d", life->thread);
        snprintf(life->other, sizeof(life->other), "./././././././././././././././././././././%s",
                 "./././././././././././other");
        snprintf(life->other + strlen(life->other), 8, "-%d", life->thread);
        CHECK_EQ(
            evl_fs_open(life->loop, req, life->name, EVL_FS_O_RDWR | EVL_FS_O_CREAT, 0644, live),
            0);
        return;
    case 1:
        CHECK_GE(result, 0);
        life->file = (evl_file)result;
        buf = buf_of(life->name, 6);
        CHECK_EQ(evl_fs_write(life->loop, req, life->file, &buf, 1, 0, live), 0);
        return;
    case 2:
        CHECK_EQ(result, 6);
        buf = evl_buf_init(life->bytes, sizeof(life->bytes));
        CHECK_EQ(evl_fs_read(life->loop, req, life->file, &buf, 1, 0, live), 0);
        return;
    case 3:
        CHECK_EQ(result, 6);
        CHECK_MEM(life->bytes, life->name, 6);
        CHECK_EQ(evl_fs_fstat(life->loop, req, life->file, live), 0);
        return;
    case 4:
        CHECK_EQ(result, 0);
        CHECK_EQ(req->statbuf.st_size, 6);
        CHECK_EQ(evl_fs_close(life->loop, req, life->file, live), 0);
        return;
    case 5:
        CHECK_EQ(result, 0);
        CHECK_EQ(evl_fs_rename(life->loop, req, life->name, life->other, live), 0);
        return;
    case 6:
        CHECK_EQ(result, 0);
        CHECK_EQ(evl_fs_scandir(life->loop, req, ".", 0, live), 0);
        return;
    case 7:
        CHECK_GE(result, 1);
        CHECK_EQ(evl_fs_unlink(life->loop, req, life->other, live), 0);
        return;
    default:
        CHECK_EQ(result, 0);
        life->step = 0;
        req->result = 0;
        if (--life->rounds > 0)
            live(req);
    }
}

static void *live_on_a_loop(void *arg) {
    life_t *life = (life_t *)arg;
    evl_loop_t *own = (evl_loop_t *)malloc(sizeof(*own));
    CHECK(own != NULL);
    CHECK_EQ(evl_loop_init(own), 0);
    for (int i = 0; i < 4; i++) {
        life[i].loop = own;
        life[i].req.data = &life[i];
        live(&life[i].req);
    }
    CHECK_EQ(evl_run(own, EVL_RUN_DEFAULT), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(life[i].rounds, 0);
    CHECK_EQ(evl_loop_close(own), 0);
    free(own);
    return NULL;
}

static void *stat_at_once(void *arg) {
    evl_fs_t req;
    (void)arg;
    for (int i = 0; i < 300; i++) {
        CHECK_EQ(evl_fs_stat(NULL, &req, long_form(".", 0), NULL), 0);
        evl_fs_req_cleanup(&req);
        CHECK_GE(evl_fs_scandir(NULL, &req, ".", 0, NULL), 0);
        evl_fs_req_cleanup(&req);
    }
    return NULL;
}

TEST(fs_on_many_loops_and_threads) {
    static life_t lives[4][4];
    os_thread_t threads[5];
    begin_async();
    long_form(".", 0);
    for (int i = 0; i < 4; i++) {
        for (int n = 0; n < 4; n++) {
            lives[i][n].thread = i * 4 + n;
            lives[i][n].rounds = OS_STORM(60);
        }
        start_thread(&threads[i], live_on_a_loop, lives[i]);
    }
    start_thread(&threads[4], stat_at_once, NULL);
    for (int i = 0; i < 5; i++)
        join_thread(threads[i]);
    CHECK_EQ(FS(scandir, ".", 0), 0);
    end_async();
}

#endif /* !EVLOOP_NO_THREADS */

#endif /* !EVLOOP_NO_FS */
