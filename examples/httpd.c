/* cc -O2 -o httpd examples/httpd.c -pthread */

/* An HTTP/1.1 server of a directory, and a client that puts it to the test.

       httpd --listen 127.0.0.1:8080 --root DIR    serves DIR until Ctrl-C; --cache BYTES
       httpd --demo                                serves a directory of its own to a client of its
                                                   own, checks every byte, prints a table

   The server is one loop in one thread. What it asks of evloop.h:

   - Lent read buffers. A request that comes in one piece is parsed where the loop put it; only one
     that comes in several is copied. An idle connection owns no buffer at all.
   - Watermarks. A file goes out in chunks; when the reader is slow, the loop says PAUSE, and RESUME
     when there is room again. A connection never holds more than OUT_MAX bytes and one chunk of
     its own.
   - Timeouts. Who is silent for too long, or does not read what is sent, is let go.
   - A limit to the connections. Beyond it the listener rests, and clients wait in the kernel.

   One request is answered at a time. What a client pipelines behind it is kept, at most one read of
   it, and nothing more is read meanwhile. So the number of connections bounds the memory.

   Nothing that may wait for a disk is done on the loop's thread. A job for the pool opens a file, one
   name of the path after the other, so that no link is followed; evl_fs_read and evl_fs_close do the
   rest. Small files are kept in a cache, which is bounded in bytes. A file that is in there is looked
   at again after a second, in case it has changed. Those who ask for it meanwhile wait for one and the
   same answer.

   The server is the first half of this file: the system (POSIX or Windows), counted memory, text,
   requests, dates, files, the cache, connections, the server, --listen. The second half is the demo:
   a directory to serve, phases and checks, the client, the run, the table. */

#include <stddef.h>

/* All memory of the library and of the server is counted here, so that the demo can tell what a
 * load costs, and that nothing is left of it. */
static void *counted_malloc(size_t size);
static void *counted_calloc(size_t count, size_t size);
static void *counted_realloc(void *ptr, size_t size);
static void counted_free(void *ptr);

#define EVLOOP_MALLOC  counted_malloc
#define EVLOOP_CALLOC  counted_calloc
#define EVLOOP_REALLOC counted_realloc
#define EVLOOP_FREE    counted_free
#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(_WIN32)
#include <windows.h>
#include <io.h>
#else
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

enum {
    HEAD_MAX = 8 * 1024,   /* bytes of a request */
    CHUNK = 64 * 1024,     /* bytes of a file that are read and sent at a time */
    OUT_LOW = 64 * 1024,   /* bytes in the write queue: where a paused connection goes on … */
    OUT_HIGH = 128 * 1024, /* … and where it pauses */
    OUT_MAX = 256 * 1024,  /* bytes on the way out, sent or not, before others have their turn */
    ANSWER_HEAD = 512,     /* room for the head of an answer */
    CONNECTIONS_MAX = 400, /* a socket and a file each: fits the usual 1024 descriptors */
    BACKLOG = 511,         /* connections that wait in the kernel */
    PATIENCE_MS = 10000,   /* for a request to come, and for a reader to read */
    LINGER_MS = 1000,      /* for a client to hang up after our last word */
    ACCEPT_RETRY_MS = 100, /* until we try again when there was no memory for a connection */
    CACHE_BYTES = 4 << 20, /* unless told otherwise … */
    CACHE_PART = 8,        /* … and one file has at most this part of them */
    FRESH_MS = 1000,       /* for so long a file is taken to be what it was */
    SETTLED_S = 2 /* what has changed a shorter time ago may change again unnoticed: a file's
                              time is no finer than that everywhere */
};

static void complain(const char *what, int error) {
    fprintf(stderr, "httpd: %s: %s\n", what, evl_strerror(error));
}

/* ==== The system ==== */

/* What POSIX and Windows do in different ways. Unless they say otherwise, these functions return 0 or
 * an error as the library has them. */

typedef enum { KIND_NONE, KIND_FOLDER, KIND_FILE, KIND_LINK, KIND_PIPE } kind_t;

#if !defined(_WIN32)

typedef int os_file_t; /* an open file or directory */

#define OS_NO_FILE (-1)

static int os_result(int result) {
    return result < 0 ? -errno : 0;
}

static int os_open_root(const char *path, os_file_t *root) {
    *root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return os_result(*root);
}

/* Opens a name in a directory. Nothing that is in the tree may lead out of it: no symbolic link is
 * followed. Nor may anything hold us up, as a pipe without a writer would without O_NONBLOCK. */
static int os_open(os_file_t dir, const char *name, bool must_be_folder, os_file_t *file) {
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    *file = openat(dir, name, must_be_folder ? flags | O_DIRECTORY : flags);
    return os_result(*file);
}

static void os_close(os_file_t file) {
    close(file);
}

/* Whether it is a folder, a file, or neither: KIND_NONE. */
static kind_t os_kind(os_file_t file) {
    struct stat info;
    if (fstat(file, &info) != 0)
        return KIND_NONE;
    return S_ISREG(info.st_mode) ? KIND_FILE : S_ISDIR(info.st_mode) ? KIND_FOLDER : KIND_NONE;
}

/* Makes it a file as the loop has them: it is closed as one from then on. */
static int os_to_file(os_file_t handle, evl_file *file) {
    *file = handle;
    return 0;
}

static bool os_utc(time_t now, struct tm *utc) {
    return gmtime_r(&now, utc) != NULL;
}

/* The handler is for one signal only: the second Ctrl-C ends the process the hard way. */
static void os_handle_signals(void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = handler;
    action.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* Makes a new directory for temporary files. */
static int os_make_temporary(char *path, size_t room) {
    const char *parent = getenv("TMPDIR");
    snprintf(path, room, "%s/httpd-XXXXXX", parent != NULL ? parent : "/tmp");
    return mkdtemp(path) == NULL ? -errno : 0;
}

/* A folder, a link to `target`, or a pipe. */
static int os_make(const char *path, kind_t kind, const char *target) {
    if (kind == KIND_FOLDER)
        return os_result(mkdir(path, 0700));
    return os_result(kind == KIND_LINK ? symlink(target, path) : mkfifo(path, 0600));
}

static FILE *os_create(const char *path) {
    return fopen(path, "wb");
}

static int os_remove(const char *path, kind_t kind) {
    return os_result(kind == KIND_FOLDER ? rmdir(path) : unlink(path));
}

/* How many descriptors are open, of those that are likely to be: the lowest are given out first. */
static int os_count_open(void) {
    int fd, count = 0;
    for (fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

#else

typedef HANDLE os_file_t;

#define OS_NO_FILE INVALID_HANDLE_VALUE

enum { OS_PATH_ROOM = 32768 };

static int os_result(BOOL done) {
    return done ? 0 : evl_translate_sys_error((int)GetLastError());
}

/* UTF-8 as Windows wants it; what is none is no name of a file. */
static int os_widen(const char *text, WCHAR *wide, int room) {
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, room);
    return n == 0 ? (int)EVL_ENOENT : 0;
}

/* Opens a directory or a file, not what a link leads to. As long as it is open, nobody can rename it
 * or what it lies in. */
static int os_open_wide(const WCHAR *path, os_file_t *file) {
    *file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING,
                        FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
    return os_result(*file != OS_NO_FILE);
}

static void os_close(os_file_t file) {
    CloseHandle(file);
}

/* The root may well be reached by a link, which is why it is not os_open_wide's. */
static int os_open_root(const char *path, os_file_t *root) {
    WCHAR wide[OS_PATH_ROOM];
    DWORD attributes;
    int error = os_widen(path, wide, OS_PATH_ROOM);
    *root = OS_NO_FILE;
    if (error != 0)
        return error;
    attributes = GetFileAttributesW(wide);
    if (attributes == INVALID_FILE_ATTRIBUTES)
        return os_result(FALSE);
    if (!(attributes & FILE_ATTRIBUTE_DIRECTORY))
        return EVL_ENOTDIR;
    *root = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_EXISTING,
                        FILE_FLAG_BACKUP_SEMANTICS, NULL);
    return os_result(*root != OS_NO_FILE);
}

/* A directory's own path begins with \\?\, and so does what is opened by it. Behind that, nothing in
 * a name is special to Windows but the backslash and the colon: neither NUL nor COM1 is a device, and
 * neither a dot nor a blank at the end is left out. */
static int os_path_in(os_file_t dir, const char *name, WCHAR path[OS_PATH_ROOM]) {
    DWORD n = GetFinalPathNameByHandleW(dir, path, OS_PATH_ROOM, FILE_NAME_NORMALIZED);
    if (n == 0 || n >= OS_PATH_ROOM - 1 || name[0] == '\0' || strpbrk(name, "\\/:") != NULL)
        return EVL_ENOENT;
    if (strcmp(name, ".") == 0)
        return 0;
    if (path[n - 1] != '\\') /* it is one for C:\ */
        path[n++] = '\\';
    return os_widen(name, path + n, OS_PATH_ROOM - (int)n);
}

static int os_open(os_file_t dir, const char *name, bool must_be_folder, os_file_t *file) {
    WCHAR path[OS_PATH_ROOM];
    BY_HANDLE_FILE_INFORMATION info;
    int error = os_path_in(dir, name, path);
    *file = OS_NO_FILE;
    if (error == 0)
        error = os_open_wide(path, file);
    if (error != 0)
        return error;
    error = os_result(GetFileInformationByHandle(*file, &info));
    if (error == 0 && (info.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT))
        error = EVL_ELOOP;
    if (error == 0 && must_be_folder && !(info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY))
        error = EVL_ENOTDIR;
    if (error != 0) {
        os_close(*file);
        *file = OS_NO_FILE;
    }
    return error;
}

static kind_t os_kind(os_file_t file) {
    BY_HANDLE_FILE_INFORMATION info;
    if (GetFileType(file) != FILE_TYPE_DISK || !GetFileInformationByHandle(file, &info))
        return KIND_NONE;
    return info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY ? KIND_FOLDER : KIND_FILE;
}

static int os_to_file(os_file_t handle, evl_file *file) {
    *file = _open_osfhandle((intptr_t)handle, _O_RDONLY | _O_BINARY);
    return *file < 0 ? (int)EVL_EMFILE : 0;
}

static bool os_utc(time_t now, struct tm *utc) {
    return gmtime_s(utc, &now) == 0;
}

/* Here, too, a handler is for one signal only; it runs in a thread of its own. */
static void os_handle_signals(void (*handler)(int)) {
    signal(SIGINT, handler);
    signal(SIGTERM, handler);
}

static int os_make_temporary(char *path, size_t room) {
    WCHAR wide[MAX_PATH + 32], parent[MAX_PATH + 1];
    DWORD n = GetTempPathW(MAX_PATH + 1, parent);
    if (n == 0 || n > MAX_PATH)
        return EVL_ENOENT;
    swprintf(wide, MAX_PATH + 32, L"%lshttpd-%lx-%lx", parent, (unsigned long)GetCurrentProcessId(),
             (unsigned long)GetTickCount());
    if (WideCharToMultiByte(CP_UTF8, 0, wide, -1, path, (int)room, NULL, NULL) == 0)
        return EVL_ENAMETOOLONG;
    return os_result(CreateDirectoryW(wide, NULL));
}

/* There are no pipes among files, and not everybody may make links: then there is none to follow. */
static int os_make(const char *path, kind_t kind, const char *target) {
    WCHAR wide[OS_PATH_ROOM], wide_target[MAX_PATH];
    int error = os_widen(path, wide, OS_PATH_ROOM);
    if (error == 0 && kind == KIND_FOLDER)
        return os_result(CreateDirectoryW(wide, NULL));
    if (error == 0 && kind == KIND_LINK && os_widen(target, wide_target, MAX_PATH) == 0)
        CreateSymbolicLinkW(wide, wide_target,
                            strcmp(target, "..") == 0 ? SYMBOLIC_LINK_FLAG_DIRECTORY : 0);
    return error;
}

static FILE *os_create(const char *path) {
    WCHAR wide[OS_PATH_ROOM];
    return os_widen(path, wide, OS_PATH_ROOM) == 0 ? _wfopen(wide, L"wb") : NULL;
}

static int os_remove(const char *path, kind_t kind) {
    WCHAR wide[OS_PATH_ROOM];
    int error = os_widen(path, wide, OS_PATH_ROOM);
    if (error != 0)
        return error;
    if (kind == KIND_LINK && RemoveDirectoryW(wide)) /* a link to a folder */
        return 0;
    return os_result(kind == KIND_FOLDER ? RemoveDirectoryW(wide) : DeleteFileW(wide));
}

/* Files and sockets: the system has handles of its own, of other kinds, that come and go. */
static int os_count_open(void) {
    uintptr_t value;
    int count = 0;
    for (value = 4; value < 8192; value += 4) {
        int type, length = sizeof type;
        count += GetFileType((HANDLE)value) == FILE_TYPE_DISK ||
                 getsockopt((SOCKET)value, SOL_SOCKET, SO_TYPE, (char *)&type, &length) == 0;
    }
    return count;
}

#endif

/* ==== Counted memory ==== */

/* What stands before each block: its size, in as many bytes as keep the block aligned. */
typedef union {
    size_t size;
    void *pointer;
    long long integer;
    long double real;
} block_head_t;

static struct {
    evl_mutex_t lock; /* the demo's server and its client run in two threads */
    size_t now, peak;
} memory;
static evl_once_t memory_once = EVL_ONCE_INIT;

static void memory_init(void) {
    if (evl_mutex_init(&memory.lock) != 0)
        abort();
}

static void memory_lock(void) {
    evl_once(&memory_once, memory_init);
    evl_mutex_lock(&memory.lock);
}

static void memory_unlock(void) {
    evl_mutex_unlock(&memory.lock);
}

static void memory_count(size_t freed, size_t taken) {
    memory_lock();
    memory.now = memory.now - freed + taken;
    if (memory.now > memory.peak)
        memory.peak = memory.now;
    memory_unlock();
}

static size_t memory_now(void) {
    size_t now;
    memory_lock();
    now = memory.now;
    memory_unlock();
    return now;
}

/* The highest count since the last call. */
static size_t memory_peak(void) {
    size_t peak;
    memory_lock();
    peak = memory.peak;
    memory.peak = memory.now;
    memory_unlock();
    return peak;
}

static void *counted_realloc(void *ptr, size_t size) {
    block_head_t *old = ptr == NULL ? NULL : (block_head_t *)ptr - 1;
    size_t freed = old == NULL ? 0 : old->size;
    block_head_t *head;
    if (size > SIZE_MAX - sizeof *head)
        return NULL;
    head = (block_head_t *)realloc(old, sizeof *head + size);
    if (head == NULL)
        return NULL;
    head->size = size;
    memory_count(freed, size);
    return head + 1;
}

static void *counted_malloc(size_t size) {
    return counted_realloc(NULL, size);
}

static void *counted_calloc(size_t count, size_t size) {
    void *ptr;
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    ptr = counted_malloc(count * size);
    if (ptr != NULL)
        memset(ptr, 0, count * size);
    return ptr;
}

static void counted_free(void *ptr) {
    if (ptr == NULL)
        return;
    memory_count(((block_head_t *)ptr - 1)->size, 0);
    free((block_head_t *)ptr - 1);
}

/* ==== Text ==== */

/* A piece of a buffer. It is not terminated, and what it holds came from outside. */
typedef struct {
    const char *at;
    size_t length;
} text_t;

/* ASCII only: the C library's functions would ask the locale. */
static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_alphanumeric(char c) {
    return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}

static int hex_value(char c) {
    if (is_digit(c))
        return c - '0';
    return lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
}

static bool text_starts(text_t text, const char *word) {
    size_t i;
    for (i = 0; word[i] != '\0'; i++) {
        if (i == text.length || lower(text.at[i]) != word[i])
            return false;
    }
    return true;
}

static bool text_equals(text_t text, const char *word) {
    return text.length == strlen(word) && text_starts(text, word);
}

/* Whether there is something, and nothing but letters, digits and `others`. */
static bool text_consists_of(text_t text, const char *others) {
    size_t i;
    for (i = 0; i < text.length; i++) {
        char c = text.at[i];
        if (!is_alphanumeric(c) && (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return text.length > 0;
}

/* Cuts off what stands before the first `separator`, which goes too; without one, everything. */
static text_t text_cut(text_t *text, char separator) {
    text_t word = *text;
    const char *end =
        text->length > 0 ? (const char *)memchr(text->at, separator, text->length) : NULL;
    if (end == NULL) {
        text->at += text->length;
        text->length = 0;
        return word;
    }
    word.length = (size_t)(end - text->at);
    text->at += word.length + 1;
    text->length -= word.length + 1;
    return word;
}

/* Takes a number off, as large as it may be. False when there is none. */
static bool text_number(text_t *text, uint64_t *number) {
    bool has_digits = false;
    *number = 0;
    while (text->length > 0 && is_digit(text->at[0])) {
        uint64_t digit = (uint64_t)(text->at[0] - '0');
        *number = *number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *number * 10 + digit;
        has_digits = true;
        text->at++;
        text->length--;
    }
    return has_digits;
}

static text_t text_trim(text_t text) {
    while (text.length > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.length--;
    }
    while (text.length > 0 && (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t'))
        text.length--;
    return text;
}

/* ==== Requests ==== */

/* Server and client, and every proxy between them, must agree on where a request ends, or one can
 * be smuggled past the other. So whatever the standard (RFC 9112) lets a server tolerate or refuse
 * is refused: bare line feeds, folded headers, repeated lengths, blanks before a colon. */

typedef struct {
    bool is_get, is_head; /* neither: some other method */
    int minor;            /* of HTTP/1.x */
    text_t target;
    bool has_host;
    bool has_length; /* a Content-Length, … */
    bool has_body;   /* … which is not 0 */
    bool has_coding; /* a Transfer-Encoding */
    bool asks_close;
    bool asks_keep_alive;
    bool has_if_range, has_if_none_match; /* never true: we give out nothing to compare with */
    int ranges, sinces;                   /* how often these two came: twice is none */
    text_t range, since;
} request_t;

static bool is_token(text_t text) {
    return text_consists_of(text, "!#$%&'*+-.^_`|~");
}

/* These three return 0, or the status to answer with. */
static int parse_request_line(text_t line, request_t *request) {
    text_t method = text_cut(&line, ' ');
    size_t i;
    request->target = text_cut(&line, ' ');
    if (!is_token(method) || request->target.length == 0)
        return 400;
    for (i = 0; i < request->target.length; i++) {
        char c = request->target.at[i];
        if (c <= ' ' || c >= 0x7f || c == '#')
            return 400;
    }
    if (line.length != 8 || memcmp(line.at, "HTTP/", 5) != 0 || !is_digit(line.at[5]) ||
        line.at[6] != '.' || !is_digit(line.at[7]))
        return 400;
    if (line.at[5] != '1')
        return 505;
    request->minor = line.at[7] == '0' ? 0 : 1;
    request->is_get = method.length == 3 && memcmp(method.at, "GET", 3) == 0;
    request->is_head = method.length == 4 && memcmp(method.at, "HEAD", 4) == 0;
    return 0;
}

static int parse_length(text_t value, request_t *request) {
    size_t i;
    if (request->has_length || value.length == 0)
        return 400;
    for (i = 0; i < value.length; i++) {
        if (!is_digit(value.at[i]))
            return 400;
        request->has_body = request->has_body || value.at[i] != '0';
    }
    request->has_length = true;
    return 0;
}

static void parse_connection(text_t value, request_t *request) {
    while (value.length > 0) {
        text_t option = text_trim(text_cut(&value, ','));
        request->asks_close = request->asks_close || text_equals(option, "close");
        request->asks_keep_alive = request->asks_keep_alive || text_equals(option, "keep-alive");
    }
}

static int parse_header(text_t line, request_t *request) {
    text_t value = line;
    text_t name = text_cut(&value, ':');
    size_t i;
    if (name.length == line.length || !is_token(name)) /* no colon; a blank, as in a folded line */
        return 400;
    value = text_trim(value);
    for (i = 0; i < value.length; i++) {
        unsigned char c = (unsigned char)value.at[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return 400;
    }
    if (text_equals(name, "host")) {
        bool is_name = value.length == 0 || text_consists_of(value, "-._~!$&'()*+,;=:%[]");
        if (request->has_host || !is_name)
            return 400;
        request->has_host = true;
    } else if (text_equals(name, "content-length")) {
        return parse_length(value, request);
    } else if (text_equals(name, "transfer-encoding")) {
        request->has_coding = true;
    } else if (text_equals(name, "connection")) {
        parse_connection(value, request);
    } else if (text_equals(name, "range")) {
        request->ranges++;
        request->range = value;
    } else if (text_equals(name, "if-modified-since")) {
        request->sinces++;
        request->since = value;
    } else if (text_equals(name, "if-range")) {
        request->has_if_range = true;
    } else if (text_equals(name, "if-none-match")) {
        request->has_if_none_match = true;
    }
    return 0;
}

/* Takes a line off the input. Returns 1, 0 when it has not come to its end yet, or -1 when it does
 * not end as it must, in CR LF. */
static int take_line(text_t *input, text_t *line) {
    if (input->length == 0 || memchr(input->at, '\n', input->length) == NULL)
        return 0;
    *line = text_cut(input, '\n');
    if (line->length == 0 || line->at[line->length - 1] != '\r')
        return -1;
    line->length--;
    return 1;
}

/* Parses the request that the input begins with. Returns how many bytes it has, 0 when the rest has
 * not come yet, or minus the status to answer with when it is none.
 *
 * A request that comes in pieces is parsed from its start each time. At HEAD_MAX bytes that is
 * cheaper than a state machine is to get right. */
static int parse_request(text_t all, request_t *request) {
    text_t input = all, line = {NULL, 0};
    bool has_line = false;
    int found, status;
    memset(request, 0, sizeof *request);
    if (input.length > HEAD_MAX)
        input.length = HEAD_MAX;
    while ((found = take_line(&input, &line)) == 1) {
        if (line.length > 0) {
            status = has_line ? parse_header(line, request) : parse_request_line(line, request);
            if (status != 0)
                return -status;
            has_line = true;
        } else if (has_line) { /* an empty line before the request is to be ignored */
            if (request->minor >= 1 && !request->has_host)
                return -400;
            if (request->has_coding && (request->has_length || request->minor == 0))
                return -400;
            return (int)(input.at - all.at);
        }
    }
    if (found < 0)
        return -400;
    if (all.length >= HEAD_MAX)
        return has_line ? -431 : -414;
    return 0;
}

/* ==== Dates and ranges ==== */

static const char WEEKDAYS[] = "SunMonTueWedThuFriSat";
static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

/* A date as HTTP writes it, in 29 characters: Sun, 06 Nov 1994 08:49:37 GMT. Nothing if it is beyond
 * four digits of the year. Not strftime's, which asks the locale. */
static void print_date(char out[32], time_t when) {
    struct tm utc;
    out[0] = '\0';
    if (when >= 0 && os_utc(when, &utc) && utc.tm_year < 8100)
        snprintf(out, 32, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", WEEKDAYS + utc.tm_wday % 7 * 3,
                 (unsigned)utc.tm_mday % 100, MONTHS + utc.tm_mon % 12 * 3,
                 (unsigned)(utc.tm_year + 1900) % 10000, (unsigned)utc.tm_hour % 100,
                 (unsigned)utc.tm_min % 100, (unsigned)utc.tm_sec % 100);
}

/* The days from 1970 to a day of the calendar, whose months count from 0. */
static int64_t days_until(int year, int month, int day) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    int past = month > 1 ? year : year - 1; /* the last year whose leap day counts */
    int64_t leap_days = past / 4 - past / 100 + past / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    return (int64_t)(year - 1970) * 365 + leap_days + before[month] + day - 1;
}

/* Two digits, or -1. */
static int two_digits(const char *at) {
    return is_digit(at[0]) && is_digit(at[1]) ? (at[0] - '0') * 10 + at[1] - '0' : -1;
}

/* Which of the names of three letters it is, or -1. */
static int name_index(const char *names, const char *at) {
    int i;
    for (i = 0; names[i * 3] != '\0'; i++) {
        if (memcmp(names + (size_t)i * 3, at, 3) == 0)
            return i;
    }
    return -1;
}

/* Reads such a date, in seconds since 1970. The two older forms that HTTP knows are no dates to us. */
static bool parse_date(text_t text, int64_t *seconds) {
    static const char form[] = "Www, dd Mmm yyyy hh:mm:ss GMT";
    const char *at = text.at;
    int day, month, century, year, hour, minute, second, i;
    int64_t days;
    if (text.length != sizeof form - 1)
        return false;
    for (i = 0; form[i] != '\0'; i++) {
        if (strchr(", :GT", form[i]) != NULL && at[i] != form[i])
            return false;
    }
    day = two_digits(at + 5);
    month = name_index(MONTHS, at + 8);
    century = two_digits(at + 12);
    year = two_digits(at + 14);
    hour = two_digits(at + 17);
    minute = two_digits(at + 20);
    second = two_digits(at + 23);
    if (day < 1 || day > 31 || month < 0 || century < 16 || year < 0 || hour < 0 || hour > 23 ||
        minute < 0 || minute > 59 || second < 0 || second > 60 || at[27] != 'M')
        return false;
    days = days_until(century * 100 + year, month, day);
    if (days >= days_until(century * 100 + year, month + 1, 1))
        return false;
    *seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    return name_index(WEEKDAYS, at) == ((days % 7) + 11) % 7; /* 1970 began on a Thursday */
}

/* A piece of a file that is asked for: from `first` to `last`, or, when `is_end`, the last `last`
 * bytes. */
typedef struct {
    bool is_asked, is_end;
    uint64_t first, last;
} range_t;

/* Reads bytes=0-99, bytes=100- or bytes=-100. Anything else, such as more than one range, is as if
 * nothing had been asked. */
static range_t parse_range(text_t text) {
    range_t range = {false, false, 0, UINT64_MAX};
    text_t unit = text_cut(&text, '=');
    bool has_first, has_last;
    text = text_trim(text);
    if (!text_equals(unit, "bytes"))
        return range;
    has_first = text_number(&text, &range.first);
    if (text.length == 0 || text.at[0] != '-')
        return range;
    text.at++;
    text.length--;
    has_last = text_number(&text, &range.last);
    range.is_end = !has_first;
    if (!has_last)
        range.last = UINT64_MAX;
    range.is_asked = text.length == 0 && (has_first ? range.first <= range.last : has_last);
    return range;
}

/* Makes it a piece of a file of this size. False when there is no such piece. */
static bool range_fit(range_t *range, uint64_t size) {
    if (range->is_end) {
        range->first = range->last < size ? size - range->last : 0;
        if (range->last == 0)
            return false;
        range->last = UINT64_MAX;
    }
    if (range->last >= size)
        range->last = size - 1;
    return range->first < size;
}

/* ==== Files ==== */

/* By the end of the name; HTML comes first, for directories are answered with theirs. */
static const struct {
    const char *extension, *type;
} TYPES[] = {
    {".html", "text/html; charset=utf-8"},
    {".htm", "text/html; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".txt", "text/plain; charset=utf-8"},
    {".md", "text/markdown; charset=utf-8"},
    {".csv", "text/csv; charset=utf-8"},
    {".json", "application/json"},
    {".xml", "application/xml"},
    {".wasm", "application/wasm"},
    {".pdf", "application/pdf"},
    {".zip", "application/zip"},
    {".gz", "application/gzip"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".jpg", "image/jpeg"},
    {".jpeg", "image/jpeg"},
    {".gif", "image/gif"},
    {".webp", "image/webp"},
    {".ico", "image/vnd.microsoft.icon"},
    {".woff2", "font/woff2"},
    {".mp3", "audio/mpeg"},
    {".mp4", "video/mp4"},
};

static const char *type_of(const char *path) {
    const char *dot = strrchr(path, '.');
    size_t i;
    if (dot != NULL) {
        text_t extension = {dot, strlen(dot)};
        for (i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
            if (text_equals(extension, TYPES[i].extension))
                return TYPES[i].type;
        }
    }
    return "application/octet-stream";
}

#define INDEX "index.html"
enum { PATH_ROOM = HEAD_MAX + sizeof INDEX };

/* Takes out of a path what leads nowhere, so that every file has one path: empty names and single
 * dots. Where it ends in one of these, it means a directory, and gets the name of the index. Returns
 * false when it leads upwards. */
static bool tidy_path(char *path) {
    char *out = path;
    const char *name = path;
    bool is_folder = true;
    while (*name != '\0') {
        size_t length = strcspn(name, "/");
        if (length == 2 && memcmp(name, "..", 2) == 0)
            return false;
        is_folder = name[length] == '/' || (length == 1 && name[0] == '.');
        if (length > 1 || (length == 1 && name[0] != '.')) {
            if (out != path)
                *out++ = '/';
            memmove(out, name, length);
            out += length;
        }
        name += name[length] == '/' ? length + 1 : length;
    }
    if (is_folder && out != path)
        *out++ = '/';
    memcpy(out, is_folder ? INDEX : "", is_folder ? sizeof INDEX : 1);
    return true;
}

/* Turns a request's target into a path from the root on: without the query, the escapes decoded.
 * Returns 0 or a status. */
static int decode_target(text_t target, char path[PATH_ROOM]) {
    size_t n = 0, i;
    text_t text;
    if (text_starts(target, "http://")) { /* what a proxy gets, and servers must take as well */
        target.at += 7;
        target.length -= 7;
        while (target.length > 0 && target.at[0] != '/' && target.at[0] != '?') {
            target.at++;
            target.length--;
        }
        path[n++] = '/'; /* one more does not matter */
    } else if (target.at[0] != '/') {
        return 400;
    }
    text = text_cut(&target, '?');
    for (i = 0; i < text.length; i++) {
        char c = text.at[i];
        if (c == '%') {
            int high = i + 2 < text.length ? hex_value(text.at[i + 1]) : -1;
            int low = i + 2 < text.length ? hex_value(text.at[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) /* no escape, or that of a NUL */
                return 400;
            c = (char)(high * 16 + low);
            i += 2;
        }
        path[n++] = c;
    }
    path[n] = '\0';
    return tidy_path(path) ? 0 : 404;
}

/* Opens a path beneath a directory, one name at a time, so that each is seen before it is used and
 * nobody can swap one for a link meanwhile. Takes `path` apart. */
static int open_beneath(os_file_t root, char *path, os_file_t *file) {
    os_file_t dir = root;
    char *name = path;
    for (;;) {
        char *end = name + strcspn(name, "/");
        bool is_last = *end == '\0';
        int error;
        *end = '\0';
        error = os_open(dir, name, !is_last, file);
        if (dir != root)
            os_close(dir);
        if (error != 0 || is_last)
            return error;
        dir = *file;
        name = end + 1;
    }
}

static int status_of(int error) {
    if (error == EVL_EACCES || error == EVL_EPERM)
        return 403;
    if (error == EVL_EMFILE || error == EVL_ENFILE || error == EVL_ENOMEM)
        return 503;
    return error == 0 ? 200 : 404; /* whatever the reason: it is nobody's business */
}

/* Opens what a path leads to: a file, or a directory's index. Takes `path` apart. Returns 200, and the
 * file is the caller's; or another status. evl_fs_open would not do: it takes a path as a whole, and
 * any part of it may be a link. */
static int open_path(os_file_t root, char *path, evl_file *file, const char **type) {
    os_file_t handle = OS_NO_FILE;
    kind_t kind = KIND_NONE;
    int error;
    *type = type_of(path);
    error = open_beneath(root, path, &handle);
    if (error == 0)
        kind = os_kind(handle);
    if (kind == KIND_FOLDER) {
        os_file_t dir = handle;
        *type = TYPES[0].type;
        error = os_open(dir, INDEX, false, &handle);
        kind = error == 0 ? os_kind(handle) : KIND_NONE;
        os_close(dir);
    }
    if (error == 0 && kind != KIND_FILE)
        error = EVL_ENOENT;
    if (error == 0)
        error = os_to_file(handle, file);
    if (error != 0 && handle != OS_NO_FILE)
        os_close(handle);
    return status_of(error);
}

/* ==== The cache ==== */

typedef struct server server_t;
typedef struct conn conn_t;
typedef struct entry entry_t;
typedef struct search search_t;

/* A connection that waits for a search. */
typedef struct waiter {
    struct waiter *next, **place; /* in the list; NULL: it does not wait */
    conn_t *conn;
} waiter_t;

/* What is sent of a file: it does not change, and goes when nobody uses it any more. Its content
 * follows, or, when it is not in memory, it keeps its file open. */
typedef struct {
    int users;        /* answers that send it, and the cache */
    size_t memory;    /* that the cache counts for it; 0: it is not in memory */
    search_t *search; /* with the open file, if it is not */
    const char *type;
    uint64_t size, device, inode;
    evl_timespec_t changed;
    bool is_settled;      /* a change would be seen */
    int64_t modified;     /* in seconds since 1970 … */
    char modified_on[32]; /* … and as a date */
} doc_t;

/* A path that somebody has asked for. It follows. */
struct entry {
    entry_t *next;          /* in the bucket */
    entry_t *newer, *older; /* by the last use */
    server_t *server;
    doc_t *doc;          /* NULL: not there yet, or not any more */
    search_t *search;    /* that is under way */
    waiter_t *waiting;   /* for that */
    uint64_t checked_ms; /* when the file was what `doc` is */
    uint32_t hash;
    size_t memory;
};

/* A file that is opened, looked at and perhaps read by the pool. Its path follows. */
struct search {
    evl_work_t work;
    evl_fs_t req;
    server_t *server;
    entry_t *entry;
    os_file_t root;
    evl_file file; /* -1: none */
    int status;
    const char *type;
    doc_t *doc; /* that is being read … */
    size_t at;  /* … up to here */
};

enum { BUCKETS = 256 };

typedef struct {
    entry_t *buckets[BUCKETS];
    entry_t *newest, *oldest;
    size_t bytes,
        limit; /* of entries, and of all docs in memory, also those that only answers use */
} cache_t;

typedef struct {
    os_file_t root;       /* the directory; every path is opened beneath it */
    uint64_t patience_ms; /* for a request to come, and for a reader to read */
    uint64_t fresh_ms;    /* for so long a file in the cache is taken to be what it was */
    size_t cache_bytes;
} options_t;

struct server {
    evl_loop_t *loop;
    evl_tcp_t listener;
    options_t options;
    conn_t *conns;
    cache_t cache;
    bool is_stopping;
    evl_task_id accept_retry;
    uint64_t connections, requests, bytes; /* so far */
    time_t date_of;
    char date[32];
};

static void conn_found(conn_t *conn, int status, doc_t *doc);
static void conn_go_on(conn_t *conn);

static void waiter_join(waiter_t *waiter, waiter_t **list) {
    waiter->next = *list;
    waiter->place = list;
    if (waiter->next != NULL)
        waiter->next->place = &waiter->next;
    *list = waiter;
}

static void waiter_leave(waiter_t *waiter) {
    if (waiter->place == NULL)
        return;
    *waiter->place = waiter->next;
    if (waiter->next != NULL)
        waiter->next->place = waiter->place;
    waiter->place = NULL;
}

/* ---- Documents ---- */

static char *doc_bytes(doc_t *doc) {
    return (char *)(doc + 1);
}

static char *search_path(search_t *search) {
    return (char *)(search + 1);
}

static void on_search_closed(evl_fs_t *req) {
    evl_fs_req_cleanup(req);
    counted_free(req->data);
}

static void search_free(search_t *search) {
    evl_fs_req_cleanup(&search->req);
    if (search->file >= 0) {
        search->req.data = search;
        if (evl_fs_close(search->server->loop, &search->req, search->file, on_search_closed) == 0)
            return;
        evl_fs_close(NULL, &search->req, search->file, NULL); /* then it has to be here */
    }
    counted_free(search);
}

static doc_t *doc_use(doc_t *doc) {
    doc->users++;
    return doc;
}

static void doc_release(server_t *server, doc_t *doc) {
    if (doc == NULL || --doc->users > 0)
        return;
    server->cache.bytes -= doc->memory;
    if (doc->search != NULL)
        search_free(doc->search);
    counted_free(doc);
}

static bool doc_is_as(const doc_t *doc, const evl_stat_t *info) {
    return doc->is_settled && doc->size == info->st_size && doc->device == info->st_dev &&
           doc->inode == info->st_ino && doc->changed.tv_sec == info->st_mtim.tv_sec &&
           doc->changed.tv_nsec == info->st_mtim.tv_nsec;
}

/* A new one for a file, with room for so much of its content. */
static doc_t *doc_new(const search_t *search, size_t room) {
    const evl_stat_t *info = &search->req.statbuf;
    doc_t *doc = (doc_t *)counted_calloc(1, sizeof *doc + room);
    int64_t now = (int64_t)time(NULL);
    if (doc == NULL)
        return NULL;
    doc->users = 1;
    doc->type = search->type;
    doc->size = info->st_size;
    doc->device = info->st_dev;
    doc->inode = info->st_ino;
    doc->changed = info->st_mtim;
    doc->is_settled = info->st_mtim.tv_sec + SETTLED_S < now;
    doc->modified = info->st_mtim.tv_sec < now ? (int64_t)info->st_mtim.tv_sec : now;
    print_date(doc->modified_on, (time_t)doc->modified);
    return doc;
}

/* ---- Entries ---- */

static char *entry_path(entry_t *entry) {
    return (char *)(entry + 1);
}

static uint32_t hash_path(const char *path) {
    uint32_t hash = 2166136261u;
    for (; *path != '\0'; path++)
        hash = (hash ^ (unsigned char)*path) * 16777619u;
    return hash;
}

static entry_t **cache_find(cache_t *cache, const char *path, uint32_t hash) {
    entry_t **place = &cache->buckets[hash % BUCKETS];
    while (*place != NULL && ((*place)->hash != hash || strcmp(entry_path(*place), path) != 0))
        place = &(*place)->next;
    return place;
}

static void cache_take_out(cache_t *cache, entry_t *entry) {
    *(entry->newer != NULL ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void cache_put_first(cache_t *cache, entry_t *entry) {
    entry->newer = NULL;
    entry->older = cache->newest;
    *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static void entry_drop(entry_t *entry) {
    cache_t *cache = &entry->server->cache;
    *cache_find(cache, entry_path(entry), entry->hash) = entry->next;
    cache_take_out(cache, entry);
    cache->bytes -= entry->memory;
    doc_release(entry->server, entry->doc);
    counted_free(entry);
}

/* Drops what has not been used for longest until there is room. What is being sent would give none,
 * and stays. False when that is not enough. */
static bool cache_make_room(cache_t *cache, size_t bytes) {
    entry_t *entry = cache->oldest;
    while (entry != NULL && cache->bytes + bytes > cache->limit) {
        entry_t *newer = entry->newer;
        if (entry->search == NULL && entry->doc->users == 1)
            entry_drop(entry);
        entry = newer;
    }
    return cache->bytes + bytes <= cache->limit;
}

/* What nobody waits for. The rest follows when its search has come to an end. */
static void cache_clear(cache_t *cache) {
    entry_t *entry = cache->oldest;
    while (entry != NULL) {
        entry_t *newer = entry->newer;
        if (entry->search == NULL)
            entry_drop(entry);
        entry = newer;
    }
}

static entry_t *entry_new(server_t *server, const char *path, uint32_t hash) {
    size_t length = strlen(path) + 1;
    entry_t *entry = (entry_t *)counted_calloc(1, sizeof *entry + length);
    entry_t **place = cache_find(&server->cache, path, hash);
    if (entry == NULL)
        return NULL;
    memcpy(entry_path(entry), path, length);
    entry->server = server;
    entry->hash = hash;
    entry->memory = sizeof *entry + length;
    server->cache.bytes += entry->memory;
    *place = entry;
    cache_put_first(&server->cache, entry);
    return entry;
}

/* ---- Searches ---- */

/* The search is over: all who have waited get the answer. Only what is in memory stays. */
static void entry_settle(entry_t *entry, int status) {
    server_t *server = entry->server;
    doc_t *doc = entry->doc != NULL ? doc_use(entry->doc) : NULL;
    waiter_t *waiting = entry->waiting;
    if (waiting != NULL)
        waiting->place = &waiting;
    entry->waiting = NULL;
    entry->search = NULL;
    entry->checked_ms = evl_now(server->loop);
    if (doc == NULL || doc->memory == 0 || server->is_stopping)
        entry_drop(entry);
    while (waiting != NULL) {
        waiter_t *waiter = waiting;
        waiter_leave(waiter);
        conn_found(waiter->conn, status, doc);
        conn_go_on(waiter->conn);
    }
    doc_release(server, doc);
}

/* With the doc that the entry is to have: its old one, a new one, or none. */
static void search_end(search_t *search, int status, doc_t *doc) {
    entry_t *entry = search->entry;
    if (doc != entry->doc)
        doc_release(entry->server, entry->doc);
    entry->doc = doc;
    if (doc == NULL || doc->search != search)
        search_free(search);
    entry_settle(entry, status);
}

static void search_read(search_t *search);

static void on_search_read(evl_fs_t *req) {
    search_t *search = (search_t *)req->data;
    doc_t *doc = search->doc;
    ssize_t n = req->result;
    evl_fs_req_cleanup(req);
    if (n < 0) {
        doc_release(search->server, doc);
        search_end(search, 503, NULL);
        return;
    }
    search->at += (size_t)n;
    if (n == 0)
        doc->size = search->at; /* it has become shorter */
    search_read(search);
}

/* Reads what is missing. */
static void search_read(search_t *search) {
    doc_t *doc = search->doc;
    evl_buf_t buf;
    if (search->at == doc->size) {
        search_end(search, 200, doc);
        return;
    }
    buf = evl_buf_init(doc_bytes(doc) + search->at, (unsigned)(doc->size - search->at));
    search->req.data = search;
    if (evl_fs_read(search->server->loop, &search->req, search->file, &buf, 1, (int64_t)search->at,
                    on_search_read) != 0) {
        doc_release(search->server, doc);
        search_end(search, 503, NULL);
    }
}

/* The file is open. It may still be what is known; else it is read, if there is room for it. */
static void search_use(search_t *search) {
    entry_t *entry = search->entry;
    cache_t *cache = &search->server->cache;
    uint64_t size = search->req.statbuf.st_size;
    bool fits = size + sizeof(doc_t) <= cache->limit / CACHE_PART && size <= INT32_MAX;
    doc_t *doc = entry->doc;
    if (doc != NULL && doc_is_as(doc, &search->req.statbuf)) {
        search_end(search, 200, doc);
        return;
    }
    doc_release(search->server, doc);
    entry->doc = NULL;
    fits = fits && cache_make_room(cache, (size_t)size + sizeof *doc);
    doc = doc_new(search, fits ? (size_t)size : 0);
    if (doc == NULL) {
        search_end(search, 503, NULL);
    } else if (!fits) {
        doc->search = search;
        search_end(search, 200, doc);
    } else {
        doc->memory = (size_t)size + sizeof *doc;
        cache->bytes += doc->memory;
        search->doc = doc;
        search_read(search);
    }
}

/* On a thread of the pool. */
static void do_search(evl_work_t *work) {
    search_t *search = (search_t *)work->data;
    search->status = open_path(search->root, search_path(search), &search->file, &search->type);
    if (search->status == 200)
        search->status = status_of(evl_fs_fstat(NULL, &search->req, search->file, NULL));
}

/* On the loop's. */
static void on_searched(evl_work_t *work, int status) {
    search_t *search = (search_t *)work->data;
    if (status == 0 && search->status == 200)
        search_use(search);
    else
        search_end(search, status == 0 ? search->status : 503, NULL);
}

static bool search_start(entry_t *entry) {
    size_t length = strlen(entry_path(entry)) + 1;
    search_t *search = (search_t *)counted_calloc(1, sizeof *search + length);
    if (search == NULL)
        return false;
    memcpy(search_path(search), entry_path(entry), length);
    search->work.data = search;
    search->server = entry->server;
    search->root = entry->server->options.root;
    search->entry = entry;
    search->file = -1;
    if (evl_queue_work(entry->server->loop, &search->work, do_search, on_searched) != 0) {
        counted_free(search);
        return false;
    }
    entry->search = search;
    return true;
}

/* Looks a path up. Returns true and the doc when it is at hand; else conn_found is called later, or,
 * when `*status` is not 0, there is no answer but this. */
static bool server_look_up(server_t *server, const char *path, waiter_t *waiter, doc_t **doc,
                           int *status) {
    uint32_t hash = hash_path(path);
    entry_t *entry = *cache_find(&server->cache, path, hash);
    *status = 0;
    if (entry == NULL)
        entry = entry_new(server, path, hash);
    if (entry == NULL) {
        *status = 503;
        return false;
    }
    cache_take_out(&server->cache, entry);
    cache_put_first(&server->cache, entry);
    *doc = entry->doc;
    if (entry->search == NULL && *doc != NULL &&
        evl_now(server->loop) - entry->checked_ms < server->options.fresh_ms)
        return true;
    if (entry->search != NULL || search_start(entry)) {
        waiter_join(waiter, &entry->waiting);
    } else {
        *status = 503;
        entry_drop(entry);
    }
    return false;
}

/* ==== Connections ==== */

typedef struct chunk chunk_t;

struct conn {
    evl_tcp_t tcp;
    server_t *server;
    conn_t *next, **place; /* in the server's list: the next one, and who points to us */
    char *held;            /* input that could not be used yet; NULL without any */
    size_t held_length;
    uint64_t waiting_since; /* for the rest of the request */
    size_t out;             /* memory of the chunks on their way out */
    waiter_t waiter;        /* for the file that is asked for */
    doc_t *doc;             /* the one being read and sent, or none … */
    uint64_t offset, left;  /* … and what of it is still to be read */
    chunk_t *reading;       /* what is being read of it */
    bool is_head;           /* what the request under way is … */
    range_t range;          /* … and what it asks for */
    int64_t since;
    int minor; /* of the HTTP/1.x that is answered */
    bool is_reading;
    bool is_paused; /* by the watermarks */
    bool has_ended; /* the client has no more to say */
    bool is_last;   /* nothing comes after the answer under way */
    bool is_shut;   /* and that has been sent */
    evl_shutdown_t shutdown;
    evl_task_id linger;
};

/* What is being written, or read first. Its bytes follow. */
struct chunk {
    union {
        evl_write_t write;
        evl_fs_t read;
    } req;
    conn_t *conn; /* NULL: it was closed meanwhile */
    server_t *server;
    doc_t *doc; /* that is read, or whose bytes are written */
    size_t memory;
};

static evl_stream_t *conn_stream(conn_t *conn) {
    return (evl_stream_t *)&conn->tcp;
}

static bool conn_is_closing(const conn_t *conn) {
    return evl_is_closing((const evl_handle_t *)&conn->tcp) != 0;
}

static void on_conn_closed(evl_handle_t *handle) {
    conn_t *conn = (conn_t *)handle->data;
    *conn->place = conn->next;
    if (conn->next != NULL)
        conn->next->place = conn->place;
    counted_free(conn->held);
    counted_free(conn);
}

/* May be called at any time, also twice. Writes under way get their callbacks first; a read under way
 * finds nobody to send it to. */
static void conn_close(conn_t *conn) {
    if (conn_is_closing(conn))
        return;
    waiter_leave(&conn->waiter);
    if (conn->reading != NULL)
        conn->reading->conn = NULL;
    doc_release(conn->server, conn->doc);
    conn->reading = NULL;
    conn->doc = NULL;
    conn->is_reading = false;
    if (conn->linger != 0)
        evl_clear_task(conn->server->loop, conn->linger);
    evl_close((evl_handle_t *)&conn->tcp, on_conn_closed);
}

/* ---- Sending ---- */

static bool conn_has_room(const conn_t *conn) {
    return !conn->is_paused && conn->out < OUT_MAX && !conn_is_closing(conn);
}

/* Whether an answer is under way that has not all been handed to the stream. */
static bool conn_is_busy(const conn_t *conn) {
    return conn->left > 0 || conn->waiter.place != NULL;
}

static void on_flow(evl_stream_t *stream, evl_flow_t flow) {
    conn_t *conn = (conn_t *)stream->data;
    conn->is_paused = flow == EVL_FLOW_PAUSE;
    if (flow == EVL_FLOW_RESUME)
        conn_go_on(conn);
}

/* A chunk with room for `room` bytes; without memory the connection ends, and this is NULL. */
static chunk_t *conn_new_chunk(conn_t *conn, size_t room) {
    chunk_t *chunk = (chunk_t *)counted_malloc(sizeof *chunk + room);
    if (chunk == NULL) {
        conn_close(conn);
        return NULL;
    }
    chunk->conn = conn;
    chunk->server = conn->server;
    chunk->doc = NULL;
    chunk->memory = sizeof *chunk + room;
    return chunk;
}

static void chunk_free(chunk_t *chunk) {
    doc_release(chunk->server, chunk->doc);
    counted_free(chunk);
}

static char *chunk_bytes(chunk_t *chunk) {
    return (char *)(chunk + 1);
}

static void on_written(evl_write_t *req, int status) {
    chunk_t *chunk = (chunk_t *)req->data;
    conn_t *conn = chunk->conn;
    conn->out -= chunk->memory;
    chunk_free(chunk);
    if (status < 0)
        conn_close(conn); /* the client has gone, or does not read */
    else
        conn_go_on(conn);
}

/* Sends the first bytes of a chunk and some that are in memory anyway: those are not copied, the chunk
 * sees to it that they stay. */
static void conn_send(conn_t *conn, chunk_t *chunk, size_t length, const char *more,
                      size_t more_length) {
    evl_buf_t bufs[2];
    bufs[0] = evl_buf_init(chunk_bytes(chunk), (unsigned)length);
    bufs[1] = evl_buf_init((char *)more, (unsigned)more_length);
    chunk->memory += more_length;
    chunk->req.write.data = chunk;
    if (evl_write(&chunk->req.write, conn_stream(conn), bufs, more_length > 0 ? 2 : 1,
                  on_written) != 0) {
        chunk_free(chunk);
        conn_close(conn);
        return;
    }
    conn->out += chunk->memory;
}

/* Part of the file has been read, which may be less than was asked for. */
static void on_chunk_read(evl_fs_t *req) {
    chunk_t *chunk = (chunk_t *)req->data;
    conn_t *conn = chunk->conn;
    ssize_t n = req->result;
    evl_fs_req_cleanup(req);
    if (conn == NULL) {
        chunk_free(chunk);
        return;
    }
    conn->reading = NULL;
    if (n <= 0) {
        chunk_free(chunk);
        conn_close(conn); /* a length was promised, and nothing else can take it back */
        return;
    }
    conn->offset += (uint64_t)n;
    conn->left -= (uint64_t)n;
    conn->server->bytes += (uint64_t)n;
    if (conn->left == 0) {
        doc_release(conn->server, conn->doc);
        conn->doc = NULL;
    }
    conn_send(conn, chunk, (size_t)n, NULL, 0);
    conn_go_on(conn);
}

/* Reads the next chunk of the file, to send it then. */
static void conn_read_file(conn_t *conn) {
    size_t length = conn->left < CHUNK ? (size_t)conn->left : (size_t)CHUNK;
    chunk_t *chunk = conn_new_chunk(conn, length);
    evl_buf_t buf;
    if (chunk == NULL)
        return;
    chunk->doc = doc_use(conn->doc);
    chunk->req.read.data = chunk;
    buf = evl_buf_init(chunk_bytes(chunk), (unsigned)length);
    if (evl_fs_read(conn->server->loop, &chunk->req.read, conn->doc->search->file, &buf, 1,
                    (int64_t)conn->offset, on_chunk_read) != 0) {
        chunk_free(chunk);
        conn_close(conn);
        return;
    }
    conn->reading = chunk;
}

/* ---- Answers ---- */

static const struct {
    int status;
    const char *reason;
} REASONS[] = {
    {200, "OK"},
    {206, "Partial Content"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {416, "Range Not Satisfiable"},
    {431, "Request Header Fields Too Large"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

static const char *reason_of(int status) {
    size_t i;
    for (i = 0; i < sizeof REASONS / sizeof REASONS[0]; i++) {
        if (REASONS[i].status == status)
            return REASONS[i].reason;
    }
    return "";
}

/* The time as HTTP wants it, written anew once a second. */
static const char *server_date(server_t *server) {
    time_t now = time(NULL);
    if (now != server->date_of) {
        print_date(server->date, now);
        server->date_of = now;
    }
    return server->date;
}

/* The head of an answer, in ANSWER_HEAD bytes, which is more than all of it together can take. */
typedef struct {
    char *at;
    size_t length;
} head_t;

static void head_add(head_t *head, const char *format, ...) {
    va_list args;
    va_start(args, format);
    head->length +=
        (size_t)vsnprintf(head->at + head->length, ANSWER_HEAD - head->length, format, args);
    va_end(args);
}

static head_t conn_begin_head(conn_t *conn, chunk_t *chunk, int status) {
    head_t head = {chunk_bytes(chunk), 0};
    head_add(&head, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, reason_of(status),
             server_date(conn->server));
    if (conn->is_last)
        head_add(&head, "Connection: close\r\n");
    else if (conn->minor == 0)
        head_add(&head, "Connection: keep-alive\r\n");
    conn->server->requests++;
    return head;
}

static void head_add_body(head_t *head, const char *type, uint64_t length) {
    head_add(head, "Content-Type: %s\r\nContent-Length: %llu\r\n", type,
             (unsigned long long)length);
}

/* Answers with a status and a line that says it. `size` is that of the file, for 416. */
static void conn_answer_status(conn_t *conn, int status, uint64_t size) {
    char body[64];
    size_t length = (size_t)snprintf(body, sizeof body, "%d %s\n", status, reason_of(status));
    chunk_t *chunk = conn_new_chunk(conn, ANSWER_HEAD + sizeof body);
    head_t head;
    if (chunk == NULL)
        return;
    head = conn_begin_head(conn, chunk, status);
    head_add_body(&head, "text/plain; charset=utf-8", length);
    if (status == 405)
        head_add(&head, "Allow: GET, HEAD\r\n");
    if (status == 416)
        head_add(&head, "Content-Range: bytes */%llu\r\n", (unsigned long long)size);
    head_add(&head, "\r\n%s", conn->is_head ? "" : body);
    conn_send(conn, chunk, head.length, NULL, 0);
}

/* Answers with a piece of a file, which may be all of it. Of what is in memory the bytes go out
 * together with the head, in one write. */
static void conn_answer_file(conn_t *conn, doc_t *doc, int status, const range_t *piece) {
    uint64_t length = doc->size == 0 ? 0 : piece->last - piece->first + 1;
    chunk_t *chunk = conn_new_chunk(conn, ANSWER_HEAD);
    head_t head;
    if (chunk == NULL)
        return;
    head = conn_begin_head(conn, chunk, status);
    if (status != 304)
        head_add_body(&head, doc->type, length);
    if (status == 206)
        head_add(&head, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)piece->first,
                 (unsigned long long)piece->last, (unsigned long long)doc->size);
    if (doc->modified_on[0] != '\0')
        head_add(&head, "Last-Modified: %s\r\n", doc->modified_on);
    head_add(&head, "Accept-Ranges: bytes\r\n\r\n");
    if (status == 304 || conn->is_head)
        length = 0;
    if (doc->search == NULL) {
        chunk->doc = doc_use(doc);
        conn->server->bytes += length;
        conn_send(conn, chunk, head.length, doc_bytes(doc) + piece->first, (size_t)length);
        return;
    }
    conn_send(conn, chunk, head.length, NULL, 0);
    if (length > 0 && !conn_is_closing(conn)) {
        conn->doc = doc_use(doc);
        conn->offset = piece->first;
        conn->left = length;
    }
}

/* The file that was asked for, or why there is none. */
static void conn_found(conn_t *conn, int status, doc_t *doc) {
    range_t all = {true, false, 0, UINT64_MAX};
    range_t piece = conn->range;
    if (status != 200) {
        conn_answer_status(conn, status, 0);
        return;
    }
    range_fit(&all, doc->size);
    if (doc->modified <= conn->since)
        conn_answer_file(conn, doc, 304, &all);
    else if (!piece.is_asked)
        conn_answer_file(conn, doc, 200, &all);
    else if (range_fit(&piece, doc->size))
        conn_answer_file(conn, doc, 206, &piece);
    else
        conn_answer_status(conn, 416, doc->size);
}

/* Keeps what the answer depends on, for when the file is there. */
static void conn_note_wishes(conn_t *conn, const request_t *request) {
    memset(&conn->range, 0, sizeof conn->range);
    conn->is_head = request->is_head;
    if (request->is_get && request->ranges == 1 && !request->has_if_range)
        conn->range = parse_range(request->range);
    if (request->sinces != 1 || request->has_if_none_match ||
        !parse_date(request->since, &conn->since))
        conn->since = INT64_MIN;
}

static void conn_answer(conn_t *conn, const request_t *request) {
    char path[PATH_ROOM];
    doc_t *doc = NULL;
    int status;
    conn->minor = request->minor;
    /* A body is refused unread, so what follows on this connection would be the body. */
    conn->is_last = request->asks_close || (request->minor == 0 && !request->asks_keep_alive) ||
                    request->has_body || request->has_coding;
    conn_note_wishes(conn, request);
    if (!request->is_get && !request->is_head)
        status = 405;
    else if (request->has_coding)
        status = 501;
    else if (request->has_body)
        status = 413;
    else
        status = decode_target(request->target, path);
    if (status == 0 && server_look_up(conn->server, path, &conn->waiter, &doc, &status))
        conn_found(conn, 200, doc);
    else if (status != 0)
        conn_answer_status(conn, status, 0);
}

/* The client made a mistake after which nothing it sends can be understood. */
static void conn_refuse(conn_t *conn, int status) {
    conn->minor = 1;
    conn->is_last = true;
    conn->is_head = false;
    conn_answer_status(conn, status, 0);
}

/* ---- Input ---- */

/* Answers the request that the input begins with, if it is all there. Returns its length. */
static size_t conn_take_request(conn_t *conn, text_t input) {
    request_t request;
    int n = input.length > 0 && !conn->is_last ? parse_request(input, &request) : 0;
    if (n > 0) {
        conn_answer(conn, &request);
    } else if (n < 0) {
        conn_refuse(conn, -n);
        return input.length;
    }
    return (size_t)n;
}

/* Does what can be done now: goes on with the file under way, then with the next request, as long
 * as there is room for what they send. Returns how much of the input has been used. */
static size_t conn_serve(conn_t *conn, text_t input) {
    text_t rest = input;
    while (conn_has_room(conn) && conn->reading == NULL && conn->waiter.place == NULL) {
        if (conn->left > 0) {
            conn_read_file(conn);
        } else {
            size_t n = conn_take_request(conn, rest);
            if (n == 0)
                break;
            rest.at += n;
            rest.length -= n;
        }
    }
    return input.length - rest.length;
}

/* Keeps input for later, behind what is kept already; without memory the connection ends. */
static void conn_hold(conn_t *conn, text_t input) {
    char *held = (char *)counted_realloc(conn->held, conn->held_length + input.length);
    if (held == NULL) {
        conn_close(conn);
        return;
    }
    memcpy(held + conn->held_length, input.at, input.length);
    if (conn->held_length == 0)
        conn->waiting_since = evl_now(conn->server->loop);
    conn->held = held;
    conn->held_length += input.length;
}

/* Serves from what is kept, and gives the memory back when nothing is left. */
static void conn_serve_held(conn_t *conn) {
    text_t input = {conn->held, conn->held_length};
    size_t used = conn_serve(conn, input);
    if (used == 0)
        return;
    conn->waiting_since = evl_now(conn->server->loop);
    conn->held_length -= used;
    if (conn->held_length > 0) {
        memmove(conn->held, conn->held + used, conn->held_length);
        return;
    }
    counted_free(conn->held);
    conn->held = NULL;
}

static void conn_input(conn_t *conn, text_t input) {
    if (conn->held_length > 0) {
        conn_hold(conn, input);
        conn_serve_held(conn);
    } else { /* most often: straight from the loop's buffer */
        size_t used = conn_serve(conn, input);
        input.at += used;
        input.length -= used;
        if (input.length > 0 && !conn_is_closing(conn))
            conn_hold(conn, input);
    }
}

static bool conn_is_overdue(const conn_t *conn) {
    return evl_now(conn->server->loop) - conn->waiting_since >= conn->server->options.patience_ms;
}

static void on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    conn_t *conn = (conn_t *)stream->data;
    text_t input;
    if (nread == 0)
        return;
    if (conn->is_shut) { /* what comes after our last word only has to be taken in */
        if (nread < 0)
            conn_close(conn);
        return;
    }
    if (nread == EVL_EOF) {
        conn->has_ended = true;
        conn->is_reading = false;
    } else if (nread < 0 && (nread != EVL_ETIMEDOUT || conn->held_length == 0)) {
        conn_close(conn); /* it failed, or was idle for long enough */
        return;
    } else if (nread > 0) {
        input.at = buf->base;
        input.length = (size_t)nread;
        conn_input(conn, input);
    }
    conn_go_on(conn);
    /* The read timeout is for those who fall silent; this is for those who send a byte at a time. */
    if (conn->is_reading && conn->held_length > 0 && conn_is_overdue(conn)) {
        conn_refuse(conn, 408);
        conn_go_on(conn);
    }
}

/* ---- Reading on, or ending ---- */

static void conn_read(conn_t *conn, bool on) {
    if (on == conn->is_reading || conn_is_closing(conn))
        return;
    conn->is_reading = on;
    if (!on)
        evl_read_stop(conn_stream(conn));
    else if (evl_read_start(conn_stream(conn), NULL, on_read) != 0)
        conn_close(conn);
}

static void on_linger_over(evl_loop_t *loop, void *arg) {
    conn_t *conn = (conn_t *)arg;
    (void)loop;
    conn->linger = 0;
    conn_close(conn);
}

/* All is sent. Closing now could destroy it: the kernel answers input that nobody reads with a
 * reset, and a client that gets one may drop what it has not read yet. So we wait for it to hang up
 * first, but not for long. */
static void on_shutdown(evl_shutdown_t *req, int status) {
    conn_t *conn = (conn_t *)req->data;
    if (status < 0 || conn->has_ended ||
        evl_set_timeout(conn->server->loop, LINGER_MS, on_linger_over, conn, &conn->linger) != 0) {
        conn_close(conn);
        return;
    }
    conn_read(conn, true);
}

static void conn_finish(conn_t *conn) {
    if (conn->is_shut)
        return;
    conn->is_shut = true;
    conn_read(conn, false);
    conn->shutdown.data = conn;
    if (evl_shutdown(&conn->shutdown, conn_stream(conn), on_shutdown) != 0)
        conn_close(conn);
}

/* Called whenever something has changed: serves what there is, then decides whether to read on. */
static void conn_go_on(conn_t *conn) {
    bool is_free;
    if (conn->is_shut || conn_is_closing(conn))
        return;
    conn_serve_held(conn);
    is_free = !conn_is_busy(conn) && conn_has_room(conn);
    if (is_free && conn->has_ended)
        conn->is_last = true; /* what is kept is the beginning of a request without an end */
    if (conn->is_last && !conn_is_busy(conn))
        conn_finish(conn);
    else
        conn_read(conn, is_free);
}

/* ==== The server ==== */

static void on_accept_retry(evl_loop_t *loop, void *arg);

static int conn_start(conn_t *conn) {
    evl_stream_t *stream = conn_stream(conn);
    uint64_t patience = conn->server->options.patience_ms;
    int error = evl_accept((evl_stream_t *)&conn->server->listener, stream);
    if (error == 0)
        error = evl_tcp_nodelay(&conn->tcp, 1);
    if (error == 0)
        error = evl_stream_set_timeouts(stream, 0, patience, patience);
    if (error == 0)
        error = evl_stream_set_watermarks(stream, OUT_LOW, OUT_HIGH, 0, on_flow);
    return error;
}

/* Takes over the connection that waits at the listener. */
static void server_accept(server_t *server) {
    conn_t *conn = (conn_t *)counted_calloc(1, sizeof *conn);
    int error = conn == NULL ? EVL_ENOMEM : evl_tcp_init(server->loop, &conn->tcp);
    if (error != 0) { /* it keeps waiting, and no other one comes before it is taken */
        counted_free(conn);
        complain("accept", error);
        error = evl_set_timeout(server->loop, ACCEPT_RETRY_MS, on_accept_retry, server,
                                &server->accept_retry);
        if (error != 0)
            complain("accept", error);
        return;
    }
    conn->tcp.data = conn;
    conn->server = server;
    conn->waiter.conn = conn;
    conn->next = server->conns;
    conn->place = &server->conns;
    if (conn->next != NULL)
        conn->next->place = &conn->next;
    server->conns = conn;
    server->connections++;
    error = conn_start(conn);
    if (error == 0)
        conn_read(conn, true);
    else
        conn_close(conn);
}

static void on_accept_retry(evl_loop_t *loop, void *arg) {
    server_t *server = (server_t *)arg;
    (void)loop;
    server->accept_retry = 0;
    server_accept(server);
}

static void on_connection(evl_stream_t *listener, int status) {
    if (status < 0)
        complain("accept", status); /* no descriptors; the listener tries again by itself */
    else
        server_accept((server_t *)listener->data);
}

/* Closes everything. The loop is rid of the server once the close callbacks have run. */
static void server_stop(server_t *server) {
    conn_t *conn;
    server->is_stopping = true;
    if (server->accept_retry != 0)
        evl_clear_task(server->loop, server->accept_retry);
    evl_close((evl_handle_t *)&server->listener, NULL);
    for (conn = server->conns; conn != NULL; conn = conn->next)
        conn_close(conn);
    cache_clear(&server->cache);
}

/* Listens. The root is an open directory and stays the caller's. On an error nothing is left but the
 * close callbacks: run the loop. */
static int server_start(server_t *server, evl_loop_t *loop, const struct sockaddr *address,
                        const options_t *options) {
    evl_stream_t *listener = (evl_stream_t *)&server->listener;
    int error;
    memset(server, 0, sizeof *server);
    server->loop = loop;
    server->options = *options;
    server->cache.limit = options->cache_bytes;
    error = evl_tcp_init(loop, &server->listener);
    if (error != 0)
        return error;
    listener->data = server;
    error = evl_tcp_bind(&server->listener, address, 0);
    if (error == 0)
        error = evl_listen(listener, BACKLOG, on_connection);
    if (error == 0)
        error = evl_listen_limit(listener, CONNECTIONS_MAX);
    if (error != 0)
        server_stop(server);
    return error;
}

static int server_address(const server_t *server, struct sockaddr_storage *address) {
    int size = (int)sizeof *address;
    return evl_tcp_getsockname(&server->listener, (struct sockaddr *)address, &size);
}

/* ==== --listen: serving until a signal ==== */

static evl_async_t interrupt; /* a signal handler finds it nowhere else */

static void on_signal(int number) {
    int saved = errno;
    (void)number;
    evl_async_send(&interrupt); /* one of the few things that a signal handler may do */
    errno = saved;
}

static void on_interrupt(evl_async_t *async) {
    os_handle_signals(SIG_DFL);
    server_stop((server_t *)async->data);
    evl_close((evl_handle_t *)async, NULL);
}

/* Reads 127.0.0.1:8080 or [::1]:8080. */
static bool parse_address(const char *text, struct sockaddr_storage *address) {
    char host[64];
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    size_t length = colon == NULL ? 0 : (size_t)(colon - text);
    long port = colon == NULL ? -1 : strtol(colon + 1, &end, 10);
    if (length == 0 || length >= sizeof host || !is_digit(colon[1]) || *end != '\0' || port > 65535)
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    if (host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        return evl_ip6_addr(host + 1, (int)port, (struct sockaddr_in6 *)address) == 0;
    }
    return evl_ip4_addr(host, (int)port, (struct sockaddr_in *)address) == 0;
}

static void print_address(const server_t *server, const char *root) {
    struct sockaddr_storage address;
    char name[64];
    unsigned port;
    if (server_address(server, &address) != 0 ||
        evl_ip_name((struct sockaddr *)&address, name, sizeof name) != 0)
        return;
    if (address.ss_family == AF_INET6) {
        port = ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
        printf("http://[%s]:%u/ serves %s until Ctrl-C\n", name, port, root);
    } else {
        port = ntohs(((struct sockaddr_in *)&address)->sin_port);
        printf("http://%s:%u/ serves %s until Ctrl-C\n", name, port, root);
    }
    fflush(stdout);
}

/* Serves an open directory. Returns the error that kept it from doing so. */
static int serve(const struct sockaddr_storage *address, const options_t *options,
                 const char *name) {
    static server_t server;
    evl_loop_t loop;
    int error = evl_loop_init(&loop);
    if (error != 0)
        return error;
    error = server_start(&server, &loop, (const struct sockaddr *)address, options);
    if (error == 0) {
        error = evl_async_init(&loop, &interrupt, on_interrupt);
        interrupt.data = &server;
        if (error == 0) {
            os_handle_signals(on_signal);
            print_address(&server, name);
        } else {
            server_stop(&server);
        }
    }
    evl_run(&loop, EVL_RUN_DEFAULT); /* until server_stop has closed the last handle */
    if (error == 0)
        printf("\n%llu requests on %llu connections, %llu bytes of files\n",
               (unsigned long long)server.requests, (unsigned long long)server.connections,
               (unsigned long long)server.bytes);
    if (evl_loop_close(&loop) != 0)
        complain("loop", EVL_EBUSY);
    evl_library_shutdown();
    if (memory_now() != 0)
        fprintf(stderr, "httpd: something was left open, %lu bytes\n", (unsigned long)memory_now());
    return error;
}

static int listen_main(const char *listen_at, const char *root_name, size_t cache_bytes) {
    options_t options = {OS_NO_FILE, PATIENCE_MS, FRESH_MS, 0};
    struct sockaddr_storage address;
    int error;
    options.cache_bytes = cache_bytes;
    memset(&address, 0, sizeof address);
    if (!parse_address(listen_at, &address)) {
        fprintf(stderr, "httpd: '%s' is no address: try 127.0.0.1:8080 or [::1]:8080\n", listen_at);
        return 1;
    }
    error = os_open_root(root_name, &options.root);
    if (error != 0) {
        complain(root_name, error);
        return 1;
    }
    error = serve(&address, &options, root_name);
    os_close(options.root);
    if (error != 0)
        complain(listen_at, error);
    return error == 0 ? 0 : 1;
}

/* ==== --demo: a directory to serve ==== */

/* Beside the sizes that one would think of, those around the edge of a chunk. */
static const struct {
    const char *name;
    size_t size;
    const char *type;
} SITE[] = {
    {"empty.txt", 0, "text/plain; charset=utf-8"},
    {"1.html", 1, "text/html; charset=utf-8"},
    {"100.css", 100, "text/css; charset=utf-8"},
    {"4k.js", 4096, "text/javascript; charset=utf-8"},
    {"10000.json", 10000, "application/json"},
    {"64k-1.png", 65535, "image/png"},
    {"64k.jpg", 65536, "image/jpeg"},
    {"64k+1.svg", 65537, "image/svg+xml"},
    {"1m.bin", 1 << 20, "application/octet-stream"},
    {"8m", 8 << 20, "application/octet-stream"},
    {"changing.csv", 5000, "text/csv; charset=utf-8"},
};

/* SMALL: the last small one. */
enum { SITE_SMALL = 7, SITE_1M = 8, SITE_8M = 9, SITE_CHANGING = 10, SITE_FILES = 11 };

/* What the checks are about. The server's root is www; nothing outside of it may be seen. */
static const struct {
    kind_t kind;
    const char *path, *content;
} PROPS[] = {
    {KIND_FILE, "secret.txt", "not for you\n"},
    {KIND_FOLDER, "www", NULL},
    {KIND_FILE, "www/index.html", "<!doctype html><title>demo</title>\n"},
    {KIND_FILE, "www/two words.txt", "found\n"},
    {KIND_FOLDER, "www/sub", NULL},
    {KIND_FILE, "www/sub/index.html", "<!doctype html><title>sub</title>\n"},
    {KIND_FOLDER, "www/bare", NULL},
    {KIND_LINK, "www/link.txt", "../secret.txt"},
    {KIND_LINK, "www/up", ".."},
    {KIND_PIPE, "www/pipe", NULL},
};

enum { PROPS_COUNT = sizeof PROPS / sizeof PROPS[0] };

typedef struct {
    char path[512]; /* of the temporary directory */
    os_file_t www;
} site_t;

/* The files' content: everyone begins at another place of the same noise. Its length is a prime, so
 * that bytes that are off by a chunk, or from another file, do not match. */
enum { NOISE = 65521 };
static char noise[NOISE];

static void noise_make(void) {
    uint32_t x = 2463534242u;
    size_t i;
    for (i = 0; i < NOISE; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        noise[i] = (char)(x >> 24);
    }
}

/* The content of a file from `offset` on, as far as it lies in one piece: at most `*length` bytes. */
static const char *site_content(int file, uint64_t offset, size_t *length) {
    size_t at = (size_t)((offset + (uint64_t)file * 7919u) % NOISE);
    if (*length > NOISE - at)
        *length = NOISE - at;
    return noise + at;
}

static int site_write(const char *path, int file, const char *content, size_t size) {
    FILE *out = os_create(path);
    uint64_t offset = 0;
    bool done = out != NULL;
    while (done && offset < size) {
        size_t length = size - (size_t)offset;
        const char *bytes = content != NULL ? content : site_content(file, offset, &length);
        done = fwrite(bytes, 1, length, out) == length;
        offset += length;
    }
    if (out != NULL && fclose(out) != 0)
        done = false;
    return done ? 0 : (int)EVL_EIO;
}

typedef struct {
    char text[600];
} path_t;

static path_t site_path(const site_t *site, const char *folder, const char *name) {
    path_t path;
    snprintf(path.text, sizeof path.text, "%s/%s%s", site->path, folder, name);
    return path;
}

static int site_fill(site_t *site) {
    int error = 0;
    size_t i;
    for (i = 0; i < PROPS_COUNT && error == 0; i++) {
        path_t path = site_path(site, "", PROPS[i].path);
        const char *content = PROPS[i].content;
        error = PROPS[i].kind == KIND_FILE ? site_write(path.text, 0, content, strlen(content))
                                           : os_make(path.text, PROPS[i].kind, content);
    }
    for (i = 0; i < SITE_FILES && error == 0; i++)
        error = site_write(site_path(site, "www/", SITE[i].name).text, (int)i, NULL, SITE[i].size);
    if (error == 0)
        error = os_open_root(site_path(site, "", "www").text, &site->www);
    return error;
}

static bool site_make(site_t *site) {
    int error;
    site->www = OS_NO_FILE;
    noise_make();
    error = os_make_temporary(site->path, sizeof site->path);
    if (error != 0) {
        complain(site->path, error);
        site->path[0] = '\0'; /* nothing to remove */
        return false;
    }
    error = site_fill(site);
    if (error != 0)
        complain(site->path, error);
    return error == 0;
}

/* Gives SITE_CHANGING another content of the same length. Every second time it keeps its date as well,
 * but is another file. */
static int site_change(const site_t *site, int version) {
    path_t path = site_path(site, "www/", SITE[SITE_CHANGING].name);
    path_t target = version % 2 == 0 ? path : site_path(site, "www/", "spare");
    int error = site_write(target.text, SITE_CHANGING + version, NULL, SITE[SITE_CHANGING].size);
    double date = 1e9 + version / 2;
    evl_fs_t req;
    if (error == 0)
        error = evl_fs_utime(NULL, &req, target.text, date, date, NULL);
    if (error == 0 && version % 2 != 0)
        error = evl_fs_rename(NULL, &req, target.text, path.text, NULL);
    return error;
}

/* Removes whatever there is of the site. */
static void site_remove(site_t *site) {
    size_t i;
    int error;
    if (site->www != OS_NO_FILE)
        os_close(site->www);
    if (site->path[0] == '\0')
        return;
    for (i = 0; i < SITE_FILES; i++)
        os_remove(site_path(site, "www/", SITE[i].name).text, KIND_FILE);
    os_remove(site_path(site, "www/", "spare").text, KIND_FILE); /* is there only if we failed */
    for (i = PROPS_COUNT; i-- > 0;)
        os_remove(site_path(site, "", PROPS[i].path).text, PROPS[i].kind);
    error = os_remove(site->path, KIND_FOLDER);
    if (error != 0)
        complain(site->path, error);
}

/* ==== --demo: phases and checks ==== */

enum {
    DEPTH_MAX = 8,           /* requests that a user pipelines */
    SAMPLES_MAX = 1 << 17,   /* latencies kept for a phase */
    USER_PATIENCE_MS = 5000, /* a server that is silent for so long has failed */
    DEMO_PATIENCE_MS = 1000, /* of the server that is to lose patience */
    BYTE_MS = 2,             /* between two bytes, so that the server sees each of them … */
    TRICKLE_MS = 60,         /* … and when it is to run out of patience over them */
    NAP_BYTES = 256 * 1024,  /* what a slow reader reads … */
    NAP_MS = 8,              /* … between two naps of this length */
    NAP_BUFFER = 32 * 1024,  /* of its kernel, so that the server does feel it */
    NAP_MEMORY = 512 * 1024, /* what it may cost */
    PAD_MAX = 100000,
    PIECE_MAX = 100000,   /* bytes */
    REQUEST_MAX = 192,    /* bytes, of those that are not checks */
    DEMO_FRESH_MS = 40,   /* that server is also to look at its files again after this … */
    CHANGE_MS = 60,       /* … and has noticed a change after this */
    DEMO_CACHE = 1 << 20, /* room for the small files, but not for the big ones */
    DEMO_LIMIT_MS = 8500  /* for everything */
};

typedef enum {
    PLAN_FRESH = 1,   /* a connection for each request */
    PLAN_HEAD = 2,    /* every fifth request is a HEAD */
    PLAN_SLOW = 4,    /* read slowly */
    PLAN_VANISH = 8,  /* hang up in the middle of the answer */
    PLAN_PIECES = 16, /* ask for pieces, and for what has changed */
    PLAN_CHANGE = 32, /* change the file before each request, and ask the server that looks often */
    PLAN_CHECKS = 64  /* a user for each of CHECKS */
} plan_t;

typedef struct {
    const char *name;
    int users, depth;
    int first, last; /* of SITE: the files asked for, in turn */
    unsigned least;  /* requests of each user, however long it takes … */
    unsigned ms;     /* … and then as many as come in this time */
    int plan;
} phase_t;

static const phase_t PHASES[] = {
    {"fresh connections", 8, 1, 0, SITE_SMALL, 8, 500, PLAN_FRESH},
    {"keep-alive", 8, 1, 0, SITE_SMALL, 8, 700, PLAN_HEAD},
    {"pipelined by 8", 8, DEPTH_MAX, 0, SITE_SMALL, 8, 400, PLAN_HEAD},
    {"big files", 4, 1, SITE_1M, SITE_8M, 1, 500, 0},
    {"pieces", 8, 4, 0, SITE_8M, 16, 400, PLAN_PIECES},
    {"changing file", 1, 1, SITE_CHANGING, SITE_CHANGING, 6, 0, PLAN_CHANGE},
    {"slow reader", 1, 1, SITE_8M, SITE_8M, 1, 0, PLAN_SLOW},
    {"vanishing clients", 8, 1, SITE_8M, SITE_8M, 2, 0, PLAN_FRESH | PLAN_VANISH},
    {"bad manners", 0, 1, 0, 0, 0, 0, PLAN_CHECKS},
};

enum { PHASES_COUNT = sizeof PHASES / sizeof PHASES[0] };

typedef enum {
    HOW_BYTEWISE = 1,  /* send one byte at a time … */
    HOW_TRICKLE = 2,   /* … so slowly that it tries one's patience */
    HOW_HALF = 4,      /* shut down the sending side when all is sent */
    HOW_IMPATIENT = 8, /* ask the server that has little patience */
    HOW_BODILESS = 16  /* the first answer is to a HEAD: a length, but no body */
} how_t;

/* What is sent on a connection of its own, and the statuses that must come back before the server
 * hangs up: text, then `pad` times the letter a, then tail. */
typedef struct {
    const char *text;
    size_t pad;
    const char *tail;
    int answers[3]; /* 0: no more */
    int how;
} check_t;

#define HOST         " HTTP/1.1\r\nHost: demo\r\n"
#define END          "\r\n"
#define LAST         "Connection: close\r\n\r\n"
#define NEXT         "GET /100.css" HOST LAST /* follows where the connection must have survived */
#define PIECE(range) "GET /100.css" HOST "Range: " range "\r\n\r\n"
#define SINCE(date)  "GET /100.css" HOST "If-Modified-Since: " date "\r\n\r\n"

static const check_t CHECKS[] = {
    /* Good ones first. */
    {"GET /" HOST LAST, 0, "", {200}, 0},
    {"GET /sub/" HOST END "GET /sub" HOST LAST, 0, "", {200, 200}, 0},
    {"GET /two%20words.txt" HOST END NEXT, 0, "", {200, 200}, 0},
    {"GET /./sub//index.html?x=/../y" HOST LAST, 0, "", {200}, 0},
    {"GET http://demo/100.css" HOST LAST, 0, "", {200}, 0},
    {"GET HTTP://demo?x" HOST LAST, 0, "", {200}, 0},
    {"\r\nGET / HTTP/1.1\r\nhOST:demo\r\ncONNECTION: x, CLOSE\r\n\r\n", 0, "", {200}, 0},
    {"GET /100.css" HOST "Content-Length: 0\r\n\r\n" NEXT, 0, "", {200, 200}, 0},
    {"GET / HTTP/1.0\r\n\r\n" NEXT, 0, "", {200}, 0},
    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" NEXT, 0, "", {200, 200}, 0},
    {"GET /100.css" HOST LAST, 0, "", {200}, HOW_BYTEWISE},
    {"GET /" HOST END "GET /100.css" HOST END, 0, "", {200, 200}, HOW_HALF},
    {"GET /8m" HOST END, 0, "", {200}, HOW_HALF},
    {"HEAD /missing" HOST END NEXT, 0, "", {404, 200}, HOW_BODILESS},
    {"GET / HTTP/1.1\r\nHost: demo\r\nX: ", 7000, END END NEXT, {200, 200}, 0},

    /* Pieces. */
    {PIECE("bytes=0-0") NEXT, 0, "", {206, 200}, 0},
    {PIECE("bytes=99-1000") NEXT, 0, "", {206, 200}, 0},
    {PIECE("bytes=-1000") NEXT, 0, "", {206, 200}, 0},
    {PIECE("bytes=100-") NEXT, 0, "", {416, 200}, 0},
    {PIECE("bytes=-0") NEXT, 0, "", {416, 200}, 0},
    {PIECE("bytes=99999999999999999999-") NEXT, 0, "", {416, 200}, 0},
    {"GET /empty.txt" HOST "Range: bytes=0-\r\n\r\n" NEXT, 0, "", {416, 200}, 0},
    {PIECE("bytes=5-4") NEXT, 0, "", {200, 200}, 0},
    {PIECE("bytes=-") NEXT, 0, "", {200, 200}, 0},
    {PIECE("bytes=0-1,3-4") NEXT, 0, "", {200, 200}, 0},
    {PIECE("bytes=a-") NEXT, 0, "", {200, 200}, 0},
    {PIECE("lines=1-2") NEXT, 0, "", {200, 200}, 0},
    {PIECE("bytes=0-1\r\nRange: bytes=0-1") NEXT, 0, "", {200, 200}, 0},
    {PIECE("bytes=0-1\r\nIf-Range: \"x\"") NEXT, 0, "", {200, 200}, 0},
    {"HEAD /8m" HOST "Range: bytes=0-1\r\n\r\n" NEXT, 0, "", {200, 200}, HOW_BODILESS},

    /* Only what has changed. */
    {SINCE("Fri, 31 Dec 9999 23:59:59 GMT") NEXT, 0, "", {304, 200}, 0},
    {SINCE("Fri, 31 Dec 9999 23:59:59 GMT\r\nRange: bytes=0-1") NEXT, 0, "", {304, 200}, 0},
    {SINCE("Thu, 01 Jan 1970 00:00:00 GMT") NEXT, 0, "", {200, 200}, 0},
    {SINCE("Fri, 31 Dec 9999 23:59:59 GMT\r\nIf-None-Match: \"x\"") NEXT, 0, "", {200, 200}, 0},
    {SINCE("Sat, 31 Dec 9999 23:59:59 GMT") NEXT, 0, "", {200, 200}, 0}, /* a Friday */
    {SINCE("Wed, 31 Nov 9999 23:59:59 GMT") NEXT, 0, "", {200, 200}, 0}, /* 30 days */
    {SINCE("Friday, 31-Dec-99 23:59:59 GMT") NEXT, 0, "", {200, 200}, 0},
    {SINCE("tomorrow") NEXT, 0, "", {200, 200}, 0},
    {SINCE("") NEXT, 0, "", {200, 200}, 0},

    /* Not found, and not to be found. */
    {"GET /missing" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /bare/" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /100.css/" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /", 7000, HOST END NEXT, {404, 200}, 0},
    {"GET /../secret.txt" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /sub/../../secret.txt" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /%2e%2E/secret.txt" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /sub%2f..%2f..%2fsecret.txt" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /link.txt" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /up/secret.txt" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /pipe" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /..%5csecret.txt" HOST END NEXT, 0, "", {404, 200}, 0}, /* these are of Windows */
    {"GET /sub\\index.html" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /%5c%5clocalhost%5cc$" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /c:/" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /c:%5cwindows%5cwin.ini" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /100.css::$DATA" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /nul" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /sub/CON" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /com1.txt" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /100.css." HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /100.css%20" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /sub/.../secret.txt" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /%ff" HOST END NEXT, 0, "", {404, 200}, 0},
    {"GET /100.css%00.txt" HOST END NEXT, 0, "", {400, 200}, 0},
    {"GET /%4" HOST END NEXT, 0, "", {400, 200}, 0},
    {"GET /%zz" HOST END NEXT, 0, "", {400, 200}, 0},

    /* Not allowed. */
    {"DELETE /" HOST END NEXT, 0, "", {405, 200}, 0},
    {"POST /" HOST "Content-Length: 4\r\n\r\nGET ", 0, "", {405}, 0},
    {"GET /" HOST "Content-Length: 4\r\n\r\nGET ", 0, "", {413}, 0},
    {"GET /" HOST "Content-Length: 99999999999999999999999\r\n\r\n", 0, "", {413}, 0},
    {"GET /" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", {501}, 0},
    {"GET / HTTP/2.0\r\nHost: demo\r\n\r\n", 0, "", {505}, 0},

    /* Malformed: whatever follows is not answered. */
    {"hello\r\n" NEXT, 0, "", {400}, 0},
    {"GET /\r\n" NEXT, 0, "", {400}, 0},
    {"GET  / HTTP/1.1\r\n" NEXT, 0, "", {400}, 0},
    {"GET / HTTP/1.x\r\n" NEXT, 0, "", {400}, 0},
    {"GET index.html" HOST END NEXT, 0, "", {400, 200}, 0},
    {"G(T /" HOST END NEXT, 0, "", {400}, 0},
    {"GET /\x01" HOST END NEXT, 0, "", {400}, 0},
    {"GET / HTTP/1.1\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "X: 1\n" LAST, 0, "", {400}, 0},
    {"GET / HTTP/1.1\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "Host: demo\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET / HTTP/1.1\r\nHost: de mo\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "No colon\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "X : 1\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "X: 1\r\n folded\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "X: a\rb\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "Content-Length: +1\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /" HOST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" NEXT, 0, "", {400}, 0},
    {"GET /100.css" HOST END "bad\r\n" NEXT, 0, "", {200, 400}, 0},

    /* Too much, too slow. */
    {"GET / HTTP/1.1\r\nX: ", 9000, END END NEXT, {431}, 0},
    {"GET /", 100000, HOST END NEXT, {414}, 0},
    {"GET / HT", 0, "", {408}, HOW_IMPATIENT},
    {"GET /" HOST LAST, 0, "", {408}, HOW_IMPATIENT | HOW_TRICKLE},
    {"GET /100.css" HOST END, 0, "", {200}, HOW_IMPATIENT},
    {"", 0, "", {0}, HOW_IMPATIENT},
};

enum { CHECKS_COUNT = sizeof CHECKS / sizeof CHECKS[0], USERS_MAX = CHECKS_COUNT };

/* ==== --demo: the client ==== */

typedef struct client client_t;

/* An answer that is due. */
typedef struct {
    int status;
    int content;            /* of site_content */
    int file;               /* of SITE; -1: the body does not matter */
    bool is_head;           /* no body, whatever the length says */
    uint64_t first, length; /* of the file: the piece that was asked for */
    uint64_t started;       /* ns */
} answer_t;

/* A connection, or in PLAN_FRESH one after another. */
typedef struct {
    client_t *client;
    const check_t *check; /* NULL: a phase's requests */
    int number;
    unsigned asked; /* requests in this phase */
    evl_tcp_t tcp;
    evl_connect_t connect;
    evl_write_t write;
    evl_shutdown_t shutdown;
    evl_task_id nap;
    uint64_t started; /* the connection, in ns */
    bool has_asked;   /* on this connection */
    bool is_writing;
    bool is_over; /* nothing more will be asked: the server is to hang up */
    bool has_failed;
    size_t sent; /* bytes of a check that goes out bytewise */
    char out[DEPTH_MAX * REQUEST_MAX];
    answer_t answers[DEPTH_MAX]; /* due, in order */
    int first, count;
    char head[1024];
    size_t head_length;
    bool in_body;
    uint64_t body_at, body_length;
    size_t awake_for; /* bytes since the last nap */
} user_t;

struct client {
    evl_loop_t loop;
    struct sockaddr_storage patient, impatient; /* the two servers */
    evl_timer_t watchdog;
    const phase_t *phase;
    const site_t *site;
    int version; /* of the file that changes */
    bool is_time_up;
    int errors;
    uint64_t requests, bytes; /* of the phase */
    uint32_t samples[SAMPLES_MAX];
    char modified[SITE_FILES][32]; /* what the server says of them */
    user_t users[USERS_MAX];
};

static char pad[PAD_MAX];

static void user_step(user_t *user);
static void user_connect(user_t *user);

static evl_stream_t *user_stream(user_t *user) {
    return (evl_stream_t *)&user->tcp;
}

static bool user_is_closing(const user_t *user) {
    return evl_is_closing((const evl_handle_t *)&user->tcp) != 0;
}

static bool user_plan(const user_t *user, plan_t plan) {
    return (user->client->phase->plan & (int)plan) != 0;
}

static bool user_how(const user_t *user, how_t how) {
    return user->check != NULL && (user->check->how & (int)how) != 0;
}

static bool user_is_bytewise(const user_t *user) {
    return user_how(user, HOW_BYTEWISE) || user_how(user, HOW_TRICKLE);
}

/* ---- Ends ---- */

static void on_user_closed(evl_handle_t *handle);

static void user_close(user_t *user) {
    if (user_is_closing(user))
        return;
    if (user->nap != 0)
        evl_clear_task(&user->client->loop, user->nap);
    evl_close((evl_handle_t *)&user->tcp, on_user_closed);
}

/* Says what went wrong; the phase ends as soon as it can. */
static void client_fail(client_t *client, const char *format, va_list args) {
    client->is_time_up = true;
    if (++client->errors > 10)
        return;
    fprintf(stderr, "httpd: %s: ", client->phase->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
}

static void user_fail(user_t *user, const char *format, ...) {
    const check_t *check = user->check;
    va_list args;
    va_start(args, format);
    client_fail(user->client, format, args);
    va_end(args);
    if (check != NULL)
        fprintf(stderr, "  after sending: %.200s%s%.100s\n", check->text,
                check->pad > 0 ? "aaaa..." : "", check->tail);
    user->has_failed = true;
    user_close(user);
}

static bool user_may_ask(const user_t *user) {
    const client_t *client = user->client;
    return user->check == NULL && !user->has_failed &&
           (!client->is_time_up || user->asked < client->phase->least);
}

static void on_user_closed(evl_handle_t *handle) {
    user_t *user = (user_t *)handle->data;
    if (user_plan(user, PLAN_FRESH) && user_may_ask(user))
        user_connect(user);
}

/* In the middle of an answer: with a reset or without. */
static void user_vanish(user_t *user) {
    user->client->requests++;
    if (user->asked % 2 == 0 || evl_tcp_close_reset(&user->tcp, on_user_closed) != 0)
        user_close(user);
}

static void on_user_shutdown(evl_shutdown_t *req, int status) {
    user_t *user = (user_t *)req->data;
    if (status < 0 && !user_is_closing(user))
        user_fail(user, "shutdown: %s", evl_strerror(status));
}

static void user_shutdown(user_t *user) {
    int error;
    user->shutdown.data = user;
    error = evl_shutdown(&user->shutdown, user_stream(user), on_user_shutdown);
    if (error != 0)
        user_fail(user, "shutdown: %s", evl_strerror(error));
}

/* ---- Requests ---- */

static answer_t *user_expect(user_t *user, int status, int file, bool is_head, uint64_t started) {
    answer_t *answer = &user->answers[(user->first + user->count++) % DEPTH_MAX];
    answer->status = status;
    answer->file = file;
    answer->content = file == SITE_CHANGING ? file + user->client->version : file;
    answer->is_head = is_head;
    answer->first = 0;
    answer->length = file >= 0 ? SITE[file].size : 0;
    answer->started = started;
    return answer;
}

static void on_user_written(evl_write_t *req, int status);

static void user_send(user_t *user, const evl_buf_t *bufs, unsigned count) {
    int error;
    user->write.data = user;
    error = evl_write(&user->write, user_stream(user), bufs, count, on_user_written);
    if (error != 0)
        user_fail(user, "write: %s", evl_strerror(error));
    else
        user->is_writing = true;
}

/* Makes the request one for a piece, or for a file if it has changed: writes the header for that, and
 * says what must come. */
static int user_ask_piece(user_t *user, answer_t *answer, char *out, size_t room) {
    uint64_t size = SITE[answer->file].size;
    uint64_t chance = (user->asked * 2654435761u + (unsigned)user->number * 40503u) >> 4;
    const char *modified = user->client->modified[answer->file];
    uint64_t length = chance % PIECE_MAX + 1, first;
    if (user->asked % 4 == 0) {
        if (modified[0] == '\0')
            return 0; /* nothing is known of the file yet */
        answer->status = 304;
        answer->length = 0;
        return snprintf(out, room, "If-Modified-Since: %s\r\n", modified);
    }
    answer->status = size == 0 ? 416 : 206;
    answer->length = length < size ? length : size;
    answer->first = size - answer->length;
    if (user->asked % 4 == 1)
        return snprintf(out, room, "Range: bytes=-%llu\r\n", (unsigned long long)length);
    if (user->asked % 4 == 2)
        return snprintf(out, room, "Range: bytes=%llu-\r\n", (unsigned long long)answer->first);
    first = size == 0 ? 0 : chance % size;
    answer->first = first;
    answer->length = length < size - first ? length : size - first;
    return snprintf(out, room, "Range: bytes=%llu-%llu\r\n", (unsigned long long)first,
                    (unsigned long long)(first + length - 1));
}

/* Asks for as many files as the phase has in flight. */
static void user_ask(user_t *user) {
    const phase_t *phase = user->client->phase;
    bool is_fresh = user_plan(user, PLAN_FRESH);
    uint64_t started = is_fresh ? user->started : evl_hrtime();
    size_t length = 0, room = sizeof user->out;
    evl_buf_t buf;
    while (user->count < phase->depth && user_may_ask(user)) {
        int file =
            phase->first + (user->number + (int)user->asked) % (phase->last - phase->first + 1);
        bool is_head = user_plan(user, PLAN_HEAD) && user->asked % 5 == 4;
        answer_t *answer = user_expect(user, 200, file, is_head, started);
        length += (size_t)snprintf(user->out + length, room - length, "%s /%s%s",
                                   is_head ? "HEAD" : "GET", SITE[file].name, HOST);
        if (user_plan(user, PLAN_PIECES))
            length += (size_t)user_ask_piece(user, answer, user->out + length, room - length);
        length += (size_t)snprintf(user->out + length, room - length, "%s", is_fresh ? LAST : END);
        user->asked++;
    }
    buf = evl_buf_init(user->out, (unsigned)length);
    user_send(user, &buf, 1);
}

/* Sends a check, or its next byte. */
static void user_send_check(user_t *user) {
    const check_t *check = user->check;
    evl_buf_t bufs[3];
    if (user_is_bytewise(user)) {
        bufs[0] = evl_buf_init((char *)check->text + user->sent++, 1);
        user_send(user, bufs, 1);
        return;
    }
    bufs[0] = evl_buf_init((char *)check->text, (unsigned)strlen(check->text));
    bufs[1] = evl_buf_init(pad, (unsigned)check->pad);
    bufs[2] = evl_buf_init((char *)check->tail, (unsigned)strlen(check->tail));
    user_send(user, bufs, 3);
}

static void user_nap(user_t *user, uint64_t ms, evl_task_cb on_wake) {
    int error = evl_set_timeout(&user->client->loop, ms, on_wake, user, &user->nap);
    if (error != 0)
        user_fail(user, "nap: %s", evl_strerror(error));
}

static void on_user_byte(evl_loop_t *loop, void *arg) {
    user_t *user = (user_t *)arg;
    (void)loop;
    user->nap = 0;
    if (user->count > 0)
        user_send_check(user);
}

static void on_user_written(evl_write_t *req, int status) {
    user_t *user = (user_t *)req->data;
    user->is_writing = false;
    if (user_is_closing(user))
        return;
    if (status < 0) {
        user_fail(user, "write: %s", evl_strerror(status));
    } else if (user_how(user, HOW_HALF)) {
        user_shutdown(user);
    } else if (user_is_bytewise(user) && user->check->text[user->sent] != '\0') {
        user_nap(user, user_how(user, HOW_TRICKLE) ? TRICKLE_MS : BYTE_MS, on_user_byte);
    } else {
        user_step(user);
    }
}

static void on_user_change_over(evl_loop_t *loop, void *arg) {
    user_t *user = (user_t *)arg;
    (void)loop;
    user->nap = 0;
    user_ask(user);
}

/* Changes the file, and asks for it as soon as the server ought to know. */
static void user_change(user_t *user) {
    client_t *client = user->client;
    int error = site_change(client->site, ++client->version);
    client->modified[SITE_CHANGING][0] = '\0';
    if (error != 0)
        user_fail(user, "cannot change the file: %s", evl_strerror(error));
    else
        user_nap(user, CHANGE_MS, on_user_change_over);
}

/* When nothing is under way: asks again, or waits for the end. */
static void user_step(user_t *user) {
    bool was_last = user->has_asked && user_plan(user, PLAN_FRESH);
    if (user->count > 0 || user->is_over || user_is_closing(user))
        return;
    if (user->nap != 0 && user_plan(user, PLAN_CHANGE))
        return; /* it is about to ask */
    if (user->is_writing && user->check == NULL)
        return; /* the request is still in use */
    if (user_may_ask(user) && !was_last) {
        user->has_asked = true;
        if (user_plan(user, PLAN_CHANGE))
            user_change(user);
        else
            user_ask(user);
        return;
    }
    user->is_over = true;
    if (user->check == NULL && !was_last)
        user_shutdown(user); /* the others have asked the server to hang up */
}

/* ---- Answers ---- */

static void user_answered(user_t *user) {
    client_t *client = user->client;
    const answer_t *answer = &user->answers[user->first];
    uint64_t ns = evl_hrtime() - answer->started;
    client->samples[client->requests++ % SAMPLES_MAX] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
    user->first = (user->first + 1) % DEPTH_MAX;
    user->count--;
    user->head_length = 0;
    user->in_body = false;
    user_step(user);
}

/* What follows the name in the head, up to the end of the line; empty if the name is not there. */
static text_t user_header(const user_t *user, const char *name) {
    text_t value = {"", 0};
    const char *at = strstr(user->head, name);
    if (at != NULL) {
        value.at = at + strlen(name);
        value.length = strcspn(value.at, "\r");
    }
    return value;
}

/* Whether the answer says of what it is a piece. */
static bool user_check_piece(const user_t *user, const answer_t *answer) {
    text_t range = user_header(user, "\r\nContent-Range: ");
    char expected[80];
    if (answer->status == 416)
        return text_starts(range, "bytes */");
    if (answer->status != 206 || answer->file < 0)
        return (range.length > 0) == (answer->status == 206);
    snprintf(expected, sizeof expected, "bytes %llu-%llu/%llu", (unsigned long long)answer->first,
             (unsigned long long)(answer->first + answer->length - 1),
             (unsigned long long)SITE[answer->file].size);
    return text_equals(range, expected);
}

/* Whether the date is always the same: the files are. */
static bool user_check_date(user_t *user, const answer_t *answer) {
    text_t date = user_header(user, "\r\nLast-Modified: ");
    char *known;
    int64_t seconds;
    if (answer->file < 0 || answer->status == 416)
        return true;
    known = user->client->modified[answer->file];
    if (!parse_date(date, &seconds))
        return false;
    if (known[0] == '\0')
        memcpy(known, date.at, date.length);
    return memcmp(known, date.at, date.length) == 0;
}

/* Compares the head with what was asked for. */
static void user_check_head(user_t *user) {
    const answer_t *answer = &user->answers[user->first];
    int status = strncmp(user->head, "HTTP/1.1 ", 9) == 0 ? atoi(user->head + 9) : 0;
    bool is_file = answer->file >= 0 && (status == 200 || status == 206);
    const char *name = answer->file >= 0 ? SITE[answer->file].name : "";
    text_t length = user_header(user, "\r\nContent-Length: ");
    text_t type = user_header(user, "\r\nContent-Type: ");
    uint64_t bytes = length.length > 0 ? strtoull(length.at, NULL, 10) : UINT64_MAX;
    if (user->count == 0)
        user_fail(user, "an answer too many: %.40s", user->head);
    else if (status != answer->status)
        user_fail(user, "%s: status %d instead of %d", name, status, answer->status);
    else if ((bytes == UINT64_MAX) != (status == 304) ||
             (status != 304 && bytes > SITE[SITE_8M].size))
        user_fail(user, "%s: no length, or nonsense", name);
    else if (is_file && bytes != answer->length)
        user_fail(user, "%s: length %.*s", name, (int)length.length, length.at);
    else if (is_file && !text_equals(type, SITE[answer->file].type))
        user_fail(user, "%s: type %.*s", name, (int)type.length, type.at);
    else if (!user_check_piece(user, answer))
        user_fail(user, "%s: another piece than was asked for", name);
    else if (!user_check_date(user, answer))
        user_fail(user, "%s: no date of change, or another one", name);
    else if (status == 405 && strstr(user->head, "\r\nAllow: GET, HEAD\r\n") == NULL)
        user_fail(user, "405 without Allow");
    user->in_body = true;
    user->body_at = 0;
    user->body_length = answer->is_head || status == 304 ? 0 : bytes;
}

/* These two return how much of the data was theirs. */
static size_t user_take_head(user_t *user, const char *data, size_t length) {
    size_t used = 0;
    while (used < length && user->head_length < sizeof user->head - 1) {
        char *end = user->head + user->head_length++;
        *end = data[used++];
        end[1] = '\0';
        if (*end == '\n' && user->head_length >= 4 && memcmp(end - 3, "\r\n\r\n", 4) == 0) {
            user_check_head(user);
            return used;
        }
    }
    if (user->head_length == sizeof user->head - 1)
        user_fail(user, "a head without an end");
    return used;
}

static size_t user_take_body(user_t *user, const char *data, size_t length) {
    const answer_t *answer = &user->answers[user->first];
    size_t used = 0;
    if (length > user->body_length - user->body_at)
        length = (size_t)(user->body_length - user->body_at);
    while (used < length) {
        size_t n = length - used;
        if (answer->file >= 0 && answer->status != 416) {
            const char *bytes = site_content(answer->content, answer->first + user->body_at, &n);
            if (memcmp(bytes, data + used, n) != 0) {
                user_fail(user, "%s: wrong bytes after %lu", SITE[answer->file].name,
                          (unsigned long)user->body_at);
                return used;
            }
        }
        used += n;
        user->body_at += n;
    }
    user->client->bytes += used;
    return used;
}

static void on_user_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf);

static void on_user_awake(evl_loop_t *loop, void *arg) {
    user_t *user = (user_t *)arg;
    int error = evl_read_start(user_stream(user), NULL, on_user_read);
    (void)loop;
    user->nap = 0;
    if (error != 0)
        user_fail(user, "read: %s", evl_strerror(error));
}

static void user_take(user_t *user, const char *data, size_t length) {
    user->awake_for += length;
    while (length > 0 && !user_is_closing(user)) {
        size_t used =
            user->in_body ? user_take_body(user, data, length) : user_take_head(user, data, length);
        data += used;
        length -= used;
        if (user_is_closing(user) || !user->in_body)
            continue;
        if (user->body_at == user->body_length)
            user_answered(user);
        else if (user_plan(user, PLAN_VANISH) && user->body_at > 0)
            user_vanish(user);
    }
    if (user_plan(user, PLAN_SLOW) && user->awake_for >= NAP_BYTES && !user_is_closing(user)) {
        user->awake_for = 0;
        evl_read_stop(user_stream(user));
        user_nap(user, NAP_MS, on_user_awake);
    }
}

static void on_user_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    user_t *user = (user_t *)stream->data;
    if (nread > 0)
        user_take(user, buf->base, (size_t)nread);
    else if (nread == EVL_EOF && user->is_over && user->head_length == 0)
        user_close(user);
    else if (nread == EVL_EOF)
        user_fail(user, "hung up with %d answers due", user->count);
    else if (nread < 0)
        user_fail(user, "read: %s", evl_strerror((int)nread));
}

/* ---- Connecting ---- */

static void on_user_connected(evl_connect_t *req, int status) {
    user_t *user = (user_t *)req->data;
    int error = status;
    if (user_is_closing(user))
        return;
    if (error == 0)
        error = evl_read_start(user_stream(user), NULL, on_user_read);
    if (error != 0)
        user_fail(user, "connect: %s", evl_strerror(error));
    else if (user->check != NULL && user->check->text[0] != '\0')
        user_send_check(user);
    else
        user_step(user);
}

static void user_reset(user_t *user) {
    size_t i;
    user->nap = 0;
    user->has_asked = user->is_writing = user->is_over = user->in_body = false;
    user->sent = user->head_length = user->awake_for = 0;
    user->first = user->count = 0;
    for (i = 0; user->check != NULL && i < 3 && user->check->answers[i] != 0; i++)
        user_expect(user, user->check->answers[i], -1, i == 0 && user_how(user, HOW_BODILESS),
                    evl_hrtime());
}

static void user_connect(user_t *user) {
    client_t *client = user->client;
    const struct sockaddr_storage *address = &client->patient;
    int kernel_buffer = NAP_BUFFER;
    int error = evl_tcp_init_ex(&client->loop, &user->tcp, AF_INET);
    user->tcp.data = user;
    user->connect.data = user;
    user_reset(user);
    if (error != 0) { /* then there is nothing to close */
        user->client = NULL;
        client->errors++;
        complain("socket", error);
        return;
    }
    if (user_how(user, HOW_IMPATIENT) || user_plan(user, PLAN_CHANGE))
        address = &client->impatient;
    user->started = evl_hrtime();
    if (user_plan(user, PLAN_SLOW))
        error = evl_recv_buffer_size((evl_handle_t *)&user->tcp, &kernel_buffer);
    if (error == 0)
        error = evl_stream_set_timeouts(user_stream(user), USER_PATIENCE_MS, USER_PATIENCE_MS,
                                        USER_PATIENCE_MS);
    if (error == 0)
        error = evl_tcp_nodelay(&user->tcp, 1);
    if (error == 0)
        error = evl_tcp_connect(&user->connect, &user->tcp, (const struct sockaddr *)address,
                                on_user_connected);
    if (error != 0)
        user_fail(user, "connect: %s", evl_strerror(error));
}

/* ==== --demo: the run ==== */

typedef struct {
    uint64_t requests, bytes, ns;
    uint32_t p50, p99; /* ns */
    size_t peak;       /* bytes of memory */
} row_t;

static void on_time_up(evl_loop_t *loop, void *arg) {
    (void)loop;
    ((client_t *)arg)->is_time_up = true;
}

static void client_give_up(client_t *client, const char *why) {
    int i;
    fprintf(stderr, "httpd: %s: %s\n", client->phase->name, why);
    client->errors++;
    for (i = 0; i < USERS_MAX; i++) {
        client->users[i].has_failed = true;
        if (client->users[i].client != NULL)
            user_close(&client->users[i]);
    }
}

static void on_watchdog(evl_timer_t *timer) {
    client_give_up((client_t *)timer->data, "this takes too long");
}

static void on_client_interrupt(evl_async_t *async) {
    client_give_up((client_t *)async->data, "interrupted");
}

static int compare_samples(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void row_latency(row_t *row, client_t *client) {
    size_t count = client->requests < SAMPLES_MAX ? (size_t)client->requests : (size_t)SAMPLES_MAX;
    if (count == 0)
        return;
    qsort(client->samples, count, sizeof client->samples[0], compare_samples);
    row->p50 = client->samples[count / 2];
    row->p99 = client->samples[count * 99 / 100];
}

/* Lets the users of a phase loose and waits until the last one is done. */
static void client_run(client_t *client, const phase_t *phase, row_t *row) {
    int users = (phase->plan & PLAN_CHECKS) != 0 ? (int)CHECKS_COUNT : phase->users, i;
    uint64_t started = evl_hrtime();
    size_t before = memory_now();
    client->phase = phase;
    client->is_time_up = phase->ms == 0 || client->errors > 0;
    client->requests = client->bytes = 0;
    memory_peak();
    for (i = 0; i < users; i++) {
        user_t *user = &client->users[i];
        memset(user, 0, sizeof *user);
        user->client = client;
        user->number = i;
        user->check = (phase->plan & PLAN_CHECKS) != 0 ? &CHECKS[i] : NULL;
        user_connect(user);
    }
    if (phase->ms > 0 && evl_set_timeout(&client->loop, phase->ms, on_time_up, client, NULL) != 0)
        client->is_time_up = true;
    evl_run(&client->loop, EVL_RUN_DEFAULT);
    row->requests = client->requests;
    row->bytes = client->bytes;
    row->ns = evl_hrtime() - started;
    row->peak = memory_peak();
    if ((phase->plan & (PLAN_VANISH | PLAN_CHECKS)) == 0) /* those do not race */
        row_latency(row, client);
    if ((phase->plan & PLAN_SLOW) != 0 && row->peak > before + NAP_MEMORY) {
        fprintf(stderr, "httpd: a slow reader costs %lu bytes\n",
                (unsigned long)(row->peak - before));
        client->errors++;
    }
}

/* Everything that the demo has, so that one function can take it down from wherever it got to. */
typedef struct {
    site_t site;
    evl_loop_t loop; /* the server's, in its own thread */
    server_t patient, impatient;
    evl_thread_t thread;
    client_t client;
    size_t at_rest;
    evl_pool_stats_t pool;
    row_t rows[PHASES_COUNT];
} demo_t;

static void server_thread(void *arg) {
    evl_run((evl_loop_t *)arg, EVL_RUN_DEFAULT);
}

/* Runs in the server's thread: but for a few calls, a loop and its handles belong to that. */
static void on_demo_over(evl_loop_t *loop, void *arg) {
    demo_t *demo = (demo_t *)arg;
    (void)loop;
    server_stop(&demo->patient);
    server_stop(&demo->impatient);
}

static int demo_listen(demo_t *demo) {
    struct sockaddr_in any_port;
    const struct sockaddr *address = (const struct sockaddr *)&any_port;
    options_t patient = {OS_NO_FILE, PATIENCE_MS, FRESH_MS, DEMO_CACHE};
    options_t impatient = {OS_NO_FILE, DEMO_PATIENCE_MS, DEMO_FRESH_MS, DEMO_CACHE};
    int error = evl_ip4_addr("127.0.0.1", 0, &any_port);
    patient.root = impatient.root = demo->site.www;
    if (error == 0)
        error = server_start(&demo->patient, &demo->loop, address, &patient);
    if (error != 0)
        return error;
    error = server_start(&demo->impatient, &demo->loop, address, &impatient);
    if (error != 0) {
        server_stop(&demo->patient);
        return error;
    }
    error = server_address(&demo->patient, &demo->client.patient);
    if (error == 0)
        error = server_address(&demo->impatient, &demo->client.impatient);
    if (error == 0)
        error = evl_thread_create(&demo->thread, server_thread, &demo->loop);
    if (error != 0)
        on_demo_over(&demo->loop, demo);
    return error;
}

static bool demo_start(demo_t *demo) {
    int error = evl_loop_init(&demo->loop);
    if (error == 0) {
        error = demo_listen(demo);
        if (error != 0) {
            evl_run(&demo->loop, EVL_RUN_DEFAULT);
            evl_loop_close(&demo->loop);
        }
    }
    if (error != 0)
        complain("server", error);
    return error == 0;
}

static bool demo_stop(demo_t *demo) {
    int error = evl_post(&demo->loop, on_demo_over, demo);
    if (error == 0)
        error = evl_thread_join(&demo->thread);
    if (error == 0)
        error = evl_loop_close(&demo->loop);
    if (error != 0)
        complain("server", error);
    return error == 0;
}

/* Neither of its two handles keeps the loop from ending: that is for the users alone. */
static int client_start(client_t *client) {
    int error = evl_loop_init(&client->loop);
    if (error != 0)
        return error;
    error = evl_timer_init(&client->loop, &client->watchdog);
    if (error == 0)
        error = evl_timer_start(&client->watchdog, on_watchdog, DEMO_LIMIT_MS, 0);
    if (error == 0)
        error = evl_async_init(&client->loop, &interrupt, on_client_interrupt);
    client->watchdog.data = client;
    interrupt.data = client;
    evl_unref((evl_handle_t *)&client->watchdog);
    evl_unref((evl_handle_t *)&interrupt);
    return error;
}

static bool demo_load(demo_t *demo) {
    client_t *client = &demo->client;
    int error = client_start(client), i;
    if (error != 0) {
        complain("client", error);
        return false;
    }
    memset(pad, 'a', sizeof pad);
    client->site = &demo->site;
    os_handle_signals(on_signal);
    for (i = 0; i < PHASES_COUNT && client->errors == 0; i++)
        client_run(client, &PHASES[i], &demo->rows[i]);
    os_handle_signals(SIG_DFL);
    evl_close((evl_handle_t *)&client->watchdog, NULL);
    evl_close((evl_handle_t *)&interrupt, NULL);
    evl_run(&client->loop, EVL_RUN_DEFAULT);
    error = evl_loop_close(&client->loop);
    if (error != 0)
        complain("client", error);
    return error == 0 && client->errors == 0;
}

/* ==== --demo: the table ==== */

typedef struct {
    char text[24];
} label_t;

static label_t label(double value, const char *unit) {
    label_t out;
    snprintf(out.text, sizeof out.text,
             value < 10    ? "%.2f %s"
             : value < 100 ? "%.1f %s"
                           : "%.0f %s",
             value, unit);
    return out;
}

static label_t label_bytes(uint64_t bytes) {
    double value = (double)bytes;
    if (bytes >= (uint64_t)1 << 30)
        return label(value / (1 << 30), "GB");
    if (bytes >= (uint64_t)1 << 20)
        return label(value / (1 << 20), "MB");
    return label(value / 1024, "KB");
}

static label_t label_ns(uint64_t ns) {
    label_t none = {"-"};
    if (ns == 0)
        return none;
    return ns < 1000000 ? label((double)ns / 1e3, "us") : label((double)ns / 1e6, "ms");
}

static void demo_print(const demo_t *demo, size_t left, int errors) {
    size_t peak = 0;
    int i;
    printf("%-18s %9s %10s %11s %11s %10s %10s %10s\n", "", "requests", "bytes", "requests/s",
           "bytes/s", "p50", "p99", "memory");
    for (i = 0; i < PHASES_COUNT; i++) {
        const row_t *row = &demo->rows[i];
        double seconds = (double)row->ns / 1e9;
        if (row->ns == 0)
            continue;
        printf("%-18s %9llu %10s %11.0f %11s %10s %10s %10s\n", PHASES[i].name,
               (unsigned long long)row->requests, label_bytes(row->bytes).text,
               (double)row->requests / seconds,
               label_bytes((uint64_t)((double)row->bytes / seconds)).text, label_ns(row->p50).text,
               label_ns(row->p99).text, label_bytes(row->peak).text);
        if (row->peak > peak)
            peak = row->peak;
    }
    printf("the pool did %llu jobs, which waited for %s (p50) and %s (p99)\n",
           (unsigned long long)demo->pool.completed,
           label_ns(evl_histogram_percentile(&demo->pool.wait_ns, 50)).text,
           label_ns(evl_histogram_percentile(&demo->pool.wait_ns, 99)).text);
    printf("memory of library and server: %s at rest, %s at peak, %lu bytes left at the end\n",
           label_bytes(demo->at_rest).text, label_bytes(peak).text, (unsigned long)left);
    printf("errors: %d\n", errors);
}

static int demo_main(void) {
    static demo_t demo;
    bool done = false;
    size_t left;
    int errors, descriptors = os_count_open();
    if (site_make(&demo.site) && demo_start(&demo)) {
        demo.at_rest = memory_now();
        done = demo_load(&demo);
        done = demo_stop(&demo) && done;
    }
    site_remove(&demo.site);
    evl_pool_stats(NULL, &demo.pool);
    evl_library_shutdown();
    left = memory_now();
    descriptors = os_count_open() - descriptors;
    if (descriptors != 0)
        fprintf(stderr, "httpd: %d descriptors were left open\n", descriptors);
    errors = demo.client.errors;
    if (errors == 0 && (!done || left != 0 || descriptors != 0))
        errors = 1;
    demo_print(&demo, left, errors);
    return errors == 0 ? 0 : 1;
}

/* ==== Main ==== */

static int usage(FILE *stream) {
    fputs(
        "usage: httpd --demo\n"
        "           serve a directory of its own to a client of its own, and check every byte\n"
        "       httpd --listen ADDRESS:PORT --root DIR [--cache BYTES]\n"
        "           serve DIR until Ctrl-C, say at 127.0.0.1:8080 or [::1]:8080, with a cache of\n"
        "           4 MB unless told otherwise; 0 is none\n",
        stream);
    return stream == stdout ? 0 : 2;
}

static bool parse_bytes(const char *text, size_t *bytes) {
    text_t rest = {text, strlen(text)};
    uint64_t number;
    if (!text_number(&rest, &number) || rest.length > 0 || number > SIZE_MAX / 2)
        return false;
    *bytes = (size_t)number;
    return true;
}

int main(int argc, char **argv) {
    static const char *const names[] = {"--listen", "--root", "--cache"};
    const char *values[] = {NULL, NULL, NULL}; /* of these */
    size_t cache_bytes = CACHE_BYTES;
    int i, k;
    if (argc == 1 || (argc == 2 && strcmp(argv[1], "--demo") == 0))
        return demo_main();
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return usage(stdout);
    for (i = 1; i < argc; i += 2) {
        for (k = 0; k < 3 && strcmp(argv[i], names[k]) != 0; k++)
            continue;
        if (k == 3 || values[k] != NULL || i + 1 == argc)
            return usage(stderr);
        values[k] = argv[i + 1];
    }
    if (values[0] == NULL || values[1] == NULL ||
        (values[2] != NULL && !parse_bytes(values[2], &cache_bytes)))
        return usage(stderr);
    return listen_main(values[0], values[1], cache_bytes);
}
