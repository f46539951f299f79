/* cc -O2 -o chat examples/chat.c -pthread */

/* chat - a chat room that does not go down with its slowest reader.
 *
 *     ./chat --demo                    (or nothing) four visitors on the same loop, then the end
 *     ./chat --listen 127.0.0.1:7778   serves until Ctrl-C; enter with: nc 127.0.0.1 7778
 *
 * What one guest says is written to all the others. A guest that does not read makes its write
 * queue grow, and some bounds keep that from eating the memory:
 *
 *     high watermark   the guest is muted: lines are left out for it and counted, until it has
 *                      read down to the low watermark; then it is told how many it has missed
 *     hard cap         a line that would pass it is refused at once: a burst within one callback
 *     our own count    a line of one byte costs a request all the same, so lines are counted too
 *     write timeout    who has not read a byte for that long is dropped, and the others are told */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOW_BYTES = 16 * 1024,
    HIGH_BYTES = 64 * 1024,
    MAX_BYTES = 128 * 1024,
    MAX_WAITING = 1000,       /* lines */
    SOCKET_BYTES = 32 * 1024, /* what the kernel may hold for a guest besides */
    MAX_GUESTS = 1000,
    MAX_NAME = 16,
    MAX_LINE = 400
};
static unsigned patience_ms = 10000;

static evl_loop_t loop;
static evl_tcp_t server;
static uint64_t started;

static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, evl_strerror(result));
        exit(EXIT_FAILURE);
    }
}

static void *allocate(size_t size) {
    void *block = calloc(1, size);
    if (block == NULL)
        check(EVL_ENOMEM, "calloc");
    return block;
}

static void report(const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("%5lu ms  ", (unsigned long)((evl_hrtime() - started) / 1000000));
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    fflush(stdout);
}

/* ---- The room ---- */

struct guest {
    evl_tcp_t tcp; /* first, so that a pointer to it is one to the guest */
    evl_shutdown_t shutdown;
    struct guest *next;
    char name[MAX_NAME + 1];
    char line[MAX_LINE]; /* what has come of the line that is being typed */
    size_t length;
    int muted;
    unsigned waiting;       /* lines in the write queue */
    unsigned long left_out; /* lines that it will be told about */
    unsigned long delivered, missed, times_muted;
    size_t most_queued;
};
static struct guest *guests;
static size_t most_queued; /* by all guests together, in bytes */

/* A line, in memory once for all who get it, and a request for each of them. */
struct message {
    unsigned users;
    unsigned length;
    char *text; /* right behind the struct */
};
struct delivery {
    evl_write_t write; /* first, so that a pointer to it is one to the delivery */
    struct message *message;
};

static void has_left(const struct guest *guest); /* the demo keeps the figures */
static void say(const struct guest *speaker, const char *format, ...);
static void catch_up(struct guest *guest);

static void release(struct message *message) {
    if (--message->users == 0)
        free(message);
}

static void on_guest_closed(evl_handle_t *handle) {
    struct guest *guest = (struct guest *)handle;
    struct guest **link = &guests;
    while (*link != guest)
        link = &(*link)->next;
    *link = guest->next;
    has_left(guest);
    if (guest->name[0] != '\0' && !evl_is_closing((evl_handle_t *)&server))
        say(NULL, "%s is gone", guest->name);
    free(guest);
}

static void leave(struct guest *guest, const char *why) {
    if (evl_is_closing((evl_handle_t *)&guest->tcp))
        return;
    report("%s leaves: %s", guest->name[0] != '\0' ? guest->name : "(no name)", why);
    evl_close((evl_handle_t *)&guest->tcp, on_guest_closed);
}

static void drop(struct guest *guest) {
    if (evl_is_closing((evl_handle_t *)&guest->tcp))
        return;
    report("%s is dropped: has read nothing for %u ms", guest->name, patience_ms);
    /* A reset, so that the kernel forgets at once what it holds for this guest. */
    if (evl_tcp_close_reset(&guest->tcp, on_guest_closed) < 0)
        evl_close((evl_handle_t *)&guest->tcp, on_guest_closed);
}

static void on_delivered(evl_write_t *req, int status) {
    struct guest *guest = (struct guest *)req->handle;
    struct delivery *delivery = (struct delivery *)req;
    release(delivery->message);
    free(delivery);
    guest->waiting--;
    if (status == 0)
        guest->delivered++;
    if (status == 0 && !guest->muted && guest->left_out > 0 && guest->waiting < MAX_WAITING / 2)
        catch_up(guest);
    else if (status == EVL_ETIMEDOUT)
        drop(guest);
    else if (status < 0) /* EVL_ECANCELED when it is closing already: then this does nothing */
        leave(guest, evl_strerror(status));
}

static void deliver(struct guest *guest, struct message *message) {
    struct delivery *delivery;
    evl_buf_t buf;
    int result = EVL_ENOBUFS;

    if (evl_is_closing((evl_handle_t *)&guest->tcp))
        return;
    if (!guest->muted && guest->waiting < MAX_WAITING) {
        delivery = (struct delivery *)allocate(sizeof *delivery);
        delivery->message = message;
        buf = evl_buf_init(message->text, message->length);
        result = evl_write(&delivery->write, (evl_stream_t *)&guest->tcp, &buf, 1, on_delivered);
        if (result == 0) {
            message->users++;
            guest->waiting++;
        } else {
            free(delivery); /* a call that fails at once makes no callback */
        }
    }
    if (result == EVL_ENOBUFS) {
        guest->left_out++;
        guest->missed++;
    }
    if (guest->most_queued < guest->tcp.write_queue_size)
        guest->most_queued = guest->tcp.write_queue_size;
}

static struct message *compose(const char *name, const char *format, va_list args) {
    struct message *message;
    char text[MAX_NAME + MAX_LINE + 8]; /* holds what a guest can say and all that the room says */
    int length = snprintf(text, sizeof text, "%s ", name);
    length += vsnprintf(text + length, sizeof text - (size_t)length, format, args);
    text[length++] = '\n';

    message = (struct message *)allocate(sizeof *message + (size_t)length);
    message->users = 1;
    message->length = (unsigned)length;
    message->text = (char *)(message + 1);
    memcpy(message->text, text, (size_t)length);
    return message;
}

/* To everybody but the speaker; NULL: the room itself speaks. */
static void say(const struct guest *speaker, const char *format, ...) {
    struct message *message;
    struct guest *guest;
    size_t queued = 0;
    va_list args;

    va_start(args, format);
    message = compose(speaker != NULL ? speaker->name : "***", format, args);
    va_end(args);
    for (guest = guests; guest != NULL; guest = guest->next) {
        if (guest != speaker && guest->name[0] != '\0')
            deliver(guest, message);
        queued += guest->tcp.write_queue_size;
    }
    release(message);
    if (most_queued < queued)
        most_queued = queued;
}

/* To one guest. */
static void whisper(struct guest *guest, const char *format, ...) {
    struct message *message;
    va_list args;
    va_start(args, format);
    message = compose("***", format, args);
    va_end(args);
    deliver(guest, message);
    release(message);
}

static void catch_up(struct guest *guest) {
    unsigned long left_out = guest->left_out;
    guest->left_out = 0;
    report("%s has caught up: %lu lines were left out", guest->name, left_out);
    whisper(guest, "you have missed %lu lines", left_out);
}

static void on_flow(evl_stream_t *stream, evl_flow_t flow) {
    struct guest *guest = (struct guest *)stream;
    guest->muted = flow == EVL_FLOW_PAUSE;
    if (guest->muted) {
        guest->times_muted++;
        report("%s is muted: %lu KiB wait to be read", guest->name,
               (unsigned long)stream->write_queue_size / 1024);
    } else if (guest->left_out > 0) {
        catch_up(guest);
    }
}

static void on_line(struct guest *guest, const char *line, size_t length) {
    if (guest->name[0] != '\0') {
        say(guest, "%.*s", (int)length, line);
    } else if (length > 0) {
        memcpy(guest->name, line, length < sizeof guest->name ? length : sizeof guest->name - 1);
        report("%s enters", guest->name);
        say(NULL, "%s enters", guest->name);
    }
}

static void on_typed(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    struct guest *guest = (struct guest *)stream;
    ssize_t i;
    if (nread < 0) {
        leave(guest, evl_strerror((int)nread));
        return;
    }
    for (i = 0; i < nread; i++) {
        char c = buf->base[i];
        if (c == '\n' || guest->length == sizeof guest->line) {
            on_line(guest, guest->line, guest->length);
            guest->length = 0;
        }
        if ((unsigned char)c >= ' ' && c != 127) /* nothing that could play with a terminal */
            guest->line[guest->length++] = c;
    }
}

static void on_arrival(evl_stream_t *listener, int status) {
    struct guest *guest;
    evl_stream_t *stream;
    int size = SOCKET_BYTES;

    if (status < 0) { /* say, EVL_EMFILE: those who wait are accepted later */
        report("accept: %s", evl_strerror(status));
        return;
    }
    guest = (struct guest *)allocate(sizeof *guest);
    stream = (evl_stream_t *)&guest->tcp;
    guest->next = guests;
    guests = guest;
    check(evl_tcp_init(&loop, &guest->tcp), "evl_tcp_init");
    status = evl_accept(listener, stream);
    if (status == 0)
        status = evl_tcp_nodelay(&guest->tcp, 1);
    if (status == 0)
        status = evl_send_buffer_size((evl_handle_t *)stream, &size);
    if (status == 0)
        status = evl_stream_set_watermarks(stream, LOW_BYTES, HIGH_BYTES, MAX_BYTES, on_flow);
    if (status == 0)
        status = evl_stream_set_timeouts(stream, 0, 0, patience_ms);
    if (status == 0)
        status = evl_read_start(stream, NULL, on_typed);
    if (status < 0)
        leave(guest, evl_strerror(status));
    else
        whisper(guest, "your name, please");
}

static void on_seen_off(evl_shutdown_t *req, int status) {
    (void)status;
    leave((struct guest *)req->handle, "the room is closed");
}

/* Takes no one in any more, and sees each guest off when it has got what is on its way to it. */
static void close_room(void) {
    struct guest *guest;
    evl_close((evl_handle_t *)&server, NULL);
    for (guest = guests; guest != NULL; guest = guest->next) {
        whisper(guest, "the room closes");
        if (evl_shutdown(&guest->shutdown, (evl_stream_t *)&guest->tcp, on_seen_off) < 0)
            leave(guest, "the room is closed");
    }
}

static void open_room(const struct sockaddr *address) {
    started = evl_hrtime();
    check(evl_tcp_init(&loop, &server), "evl_tcp_init");
    check(evl_tcp_bind(&server, address, 0), "evl_tcp_bind");
    check(evl_listen((evl_stream_t *)&server, 128, on_arrival), "evl_listen");
    check(evl_listen_limit((evl_stream_t *)&server, MAX_GUESTS), "evl_listen_limit");
}

/* ---- --listen ---- */

static void on_interrupt(int signum) {
    (void)signum;
    evl_post_stop(&loop); /* may be called here, as from any thread */
}

/* Takes "127.0.0.1:7778" or "[::1]:7778". */
static int parse_address(const char *text, struct sockaddr_storage *address) {
    const char *colon = strrchr(text, ':');
    char host[64], *end;
    size_t length;
    long port;

    if (colon == NULL)
        return EVL_EINVAL;
    port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port < 0 || port > 65535)
        return EVL_EINVAL;
    length = (size_t)(colon - text);
    if (length > 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        length -= 2;
    }
    if (length >= sizeof host)
        return EVL_EINVAL;
    memcpy(host, text, length);
    host[length] = '\0';
    if (evl_ip4_addr(host, (int)port, (struct sockaddr_in *)address) == 0)
        return 0;
    return evl_ip6_addr(host, (int)port, (struct sockaddr_in6 *)address);
}

static void serve(const char *where) {
    struct sockaddr_storage address;
    check(parse_address(where, &address), where);
    open_room((const struct sockaddr *)&address);
    signal(SIGINT, on_interrupt);
    report("open at %s, until Ctrl-C", where);
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");

    signal(SIGINT, SIG_DFL); /* who presses it again will not wait for those who do not read */
    close_room();
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
}

/* ---- --demo: one talks, one reads, one naps, one never reads ---- */

enum { NEVER = -1, TALK_MS = 1000, NAP_MS = 300, LINES_AT_ONCE = 16 };

struct visitor {
    const char *name, *habit;
    int reads_after_ms;
    unsigned long lines; /* that have come */
    unsigned long delivered, missed, times_muted;
    size_t most_queued;
    evl_tcp_t tcp;
    evl_connect_t connect;
    evl_write_t write;
    evl_shutdown_t shutdown;
};
static struct visitor visitors[4];
static struct visitor *const talker = &visitors[3];
static evl_timer_t talk_timer;
static int talking; /* a write of the talker's is under way */
static char speech[LINES_AT_ONCE * 256];

static void has_left(const struct guest *guest) {
    size_t i;
    for (i = 0; i < 4; i++) {
        struct visitor *visitor = &visitors[i];
        if (visitor->name != NULL && strcmp(visitor->name, guest->name) == 0) {
            visitor->delivered = guest->delivered;
            visitor->missed = guest->missed;
            visitor->times_muted = guest->times_muted;
            visitor->most_queued = guest->most_queued;
        }
    }
}

static void on_spoken(evl_write_t *req, int status) {
    (void)req;
    check(status, "write");
    talking = 0;
}

static void on_talk(evl_timer_t *timer) {
    evl_buf_t buf = evl_buf_init(speech, sizeof speech);
    evl_stream_t *stream = (evl_stream_t *)&talker->tcp;
    if (talking)
        return;
    if (evl_hrtime() - started > TALK_MS * (uint64_t)1000000) {
        evl_close((evl_handle_t *)timer, NULL);
        check(evl_shutdown(&talker->shutdown, stream, NULL), "evl_shutdown");
        return;
    }
    talking = 1;
    check(evl_write(&talker->write, stream, &buf, 1, on_spoken), "evl_write");
}

static void on_heard(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    struct visitor *visitor = (struct visitor *)stream->data;
    ssize_t i;
    if (nread == EVL_EOF) {
        evl_close((evl_handle_t *)stream, NULL);
        if (visitor == talker) { /* the evening is over, also for whom we know not to listen */
            evl_close((evl_handle_t *)&visitors[2].tcp, NULL);
            close_room();
        }
        return;
    }
    check((int)nread, "read");
    for (i = 0; i < nread; i++)
        visitor->lines += buf->base[i] == '\n';
}

static void on_awake(evl_loop_t *unused, void *arg) {
    struct visitor *visitor = (struct visitor *)arg;
    (void)unused;
    check(evl_read_start((evl_stream_t *)&visitor->tcp, NULL, on_heard), "evl_read_start");
}

static void on_named(evl_write_t *req, int status) {
    struct visitor *visitor = (struct visitor *)req->handle->data;
    check(status, "write");
    if (visitor == talker) {
        check(evl_timer_init(&loop, &talk_timer), "evl_timer_init");
        check(evl_timer_start(&talk_timer, on_talk, 10, 1), "evl_timer_start");
    }
}

static void on_inside(evl_connect_t *req, int status) {
    struct visitor *visitor = (struct visitor *)req->handle->data;
    evl_buf_t name[2];
    check(status, "connect");
    name[0] = evl_buf_init((char *)visitor->name, (unsigned)strlen(visitor->name));
    name[1] = evl_buf_init(speech + sizeof speech - 1, 1); /* a newline */
    check(evl_write(&visitor->write, req->handle, name, 2, on_named), "evl_write");
    if (visitor->reads_after_ms == 0)
        on_awake(&loop, visitor);
    else if (visitor->reads_after_ms > 0)
        check(evl_set_timeout(&loop, (uint64_t)visitor->reads_after_ms, on_awake, visitor, NULL),
              "evl_set_timeout");
}

static void enter(struct visitor *visitor, const char *name, const char *habit, int reads_after_ms,
                  const struct sockaddr *address) {
    int size = SOCKET_BYTES;
    visitor->name = name;
    visitor->habit = habit;
    visitor->reads_after_ms = reads_after_ms;
    check(evl_tcp_init_ex(&loop, &visitor->tcp, AF_INET), "evl_tcp_init_ex");
    if (reads_after_ms != 0) /* so that the kernel does not read megabytes in their stead */
        check(evl_recv_buffer_size((evl_handle_t *)&visitor->tcp, &size), "evl_recv_buffer_size");
    check(evl_tcp_nodelay(&visitor->tcp, 1), "evl_tcp_nodelay");
    visitor->tcp.data = visitor;
    check(evl_tcp_connect(&visitor->connect, &visitor->tcp, address, on_inside), "evl_tcp_connect");
}

static void demo(void) {
    struct sockaddr_in address;
    int length = sizeof address, good;
    size_t i;

    patience_ms = 500;
    memset(speech, '.', sizeof speech);
    for (i = 1; i <= LINES_AT_ONCE; i++)
        speech[i * 256 - 1] = '\n';

    check(evl_ip4_addr("127.0.0.1", 0, &address), "evl_ip4_addr"); /* port 0: any that is free */
    open_room((const struct sockaddr *)&address);
    check(evl_tcp_getsockname(&server, (struct sockaddr *)&address, &length), "getsockname");
    enter(&visitors[0], "ann", "reads", 0, (const struct sockaddr *)&address);
    enter(&visitors[1], "bob", "naps for 300 ms", NAP_MS, (const struct sockaddr *)&address);
    enter(&visitors[2], "cid", "never reads", NEVER, (const struct sockaddr *)&address);
    enter(&visitors[3], "dee", "talks", 0, (const struct sockaddr *)&address);
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");

    puts("\nguest  habit             delivered  arrived  left out  muted  most queued");
    for (i = 0; i < 4; i++) {
        const struct visitor *v = &visitors[i];
        printf("%-5s  %-16s  %9lu  %7lu  %8lu  %5lu  %7.1f KiB\n", v->name, v->habit, v->delivered,
               v->lines, v->missed, v->times_muted, (double)v->most_queued / 1024);
    }
    printf("all write queues together held at most %.1f KiB\n", (double)most_queued / 1024);

    /* Who reads has got all that was delivered, and nobody's queue was longer than allowed. */
    good = visitors[0].lines == visitors[0].delivered && visitors[1].lines == visitors[1].delivered;
    for (i = 0; i < 4; i++)
        good = good && visitors[i].most_queued <= MAX_BYTES;
    if (!good) {
        fprintf(stderr, "these figures are wrong\n");
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv) {
    check(evl_loop_init(&loop), "evl_loop_init");
    if (argc == 1 || (argc == 2 && strcmp(argv[1], "--demo") == 0)) {
        demo();
    } else if (argc == 3 && strcmp(argv[1], "--listen") == 0) {
        serve(argv[2]);
    } else {
        fprintf(stderr, "usage: %s [--demo | --listen ADDRESS:PORT]\n", argv[0]);
        return EXIT_FAILURE;
    }
    check(evl_loop_close(&loop), "evl_loop_close");
    return EXIT_SUCCESS;
}
