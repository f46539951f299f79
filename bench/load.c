/* The load of the network benchmarks: connections to a server on 127.0.0.1, in a process of its own.
 *
 *     load echo PORT CONNECTIONS BYTES [IDLE]   requests of so many bytes, which must come back; the next
 *                                               one leaves when all of the last has come. Before them
 *                                               IDLE connections are made on which nothing happens.
 *     load churn PORT CONNECTIONS BYTES         one request for each connection, which the server closes
 *                                               after the answer; a new connection takes its place
 *     load send PORT CONNECTIONS BYTES          sends for ever, so many bytes at a time
 *     load receive PORT CONNECTIONS BYTES       receives for ever
 *
 * It runs until a signal ends it. A connection that ends too early, or a wrong byte, ends it with status
 * 1. Bare epoll, so that it does less for a request than any server that it is meant for.
 *
 * Each connection closes with a reset (SO_LINGER of 0 seconds): no end of it waits in TIME_WAIT, whoever
 * closes first, and the ports of this machine don't run out. */
#define _GNU_SOURCE 1

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 512, CHUNK = 65536 };

typedef struct {
    int fd;
    uint32_t interest;    /* what epoll watches for */
    uint64_t number;      /* of the request, in its first bytes */
    size_t sent, arrived; /* of this request and of its answer */
    char *request;
} connection_t;

static struct sockaddr_in address;
static size_t bytes;
static int epoll;
static char chunk[CHUNK];

static void check(int ok, const char *what) {
    if (ok)
        return;
    fprintf(stderr, "load: %s (errno %d)\n", what, errno);
    exit(1);
}

static int would_block(ssize_t count) {
    return count < 0 && (errno == EAGAIN || errno == EINTR);
}

/* ---- Connections ---- */

static int connect_to_server(void) {
    struct linger reset = {1, 0};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0, "socket failed");
    check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0, "SO_LINGER failed");
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "TCP_NODELAY failed");
    check(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect failed");
    return fd;
}

static void watch(connection_t *connection, uint32_t interest) {
    struct epoll_event event = {0};
    int op = connection->interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (connection->interest == interest)
        return;
    event.events = interest;
    event.data.ptr = connection;
    check(epoll_ctl(epoll, op, connection->fd, &event) == 0, "epoll_ctl failed");
    connection->interest = interest;
}

/* Of bytes that flow one way: as the server's, so that the kernel does not make them grow. */
static void fix_buffers(int fd) {
    int size = 128 * 1024;
    check(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0, "SO_SNDBUF failed");
    check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0, "SO_RCVBUF failed");
}

static void open_connection(connection_t *connection) {
    connection->fd = connect_to_server();
    connection->interest = 0;
    connection->sent = connection->arrived = 0;
}

/* ---- Requests and answers ---- */

/* Sends what is left of the request, as much of it as the kernel takes. */
static void send_request(connection_t *connection) {
    ssize_t count = send(connection->fd, connection->request + connection->sent,
                         bytes - connection->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    check(count >= 0 || would_block(count), "the server does not take a request");
    connection->sent += count > 0 ? (size_t)count : 0;
    watch(connection, connection->sent < bytes ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void begin_request(connection_t *connection) {
    size_t size = sizeof(connection->number);
    connection->number++;
    connection->sent = connection->arrived = 0;
    memcpy(connection->request, &connection->number, size < bytes ? size : bytes);
    send_request(connection);
}

/* Reads of the answer what is there. Returns whether it is complete. */
static int read_answer(connection_t *connection) {
    ssize_t count = recv(connection->fd, chunk, CHUNK, MSG_DONTWAIT);
    if (would_block(count))
        return 0;
    check(count > 0, "the server has closed a connection before its answer");
    check(connection->arrived + (size_t)count <= bytes, "more has come than was asked for");
    check(memcmp(chunk, connection->request + connection->arrived, (size_t)count) == 0,
          "wrong bytes have come back");
    connection->arrived += (size_t)count;
    return connection->arrived == bytes;
}

static void on_echo(connection_t *connection, uint32_t events) {
    if (events & EPOLLOUT)
        send_request(connection);
    if ((events & ~(uint32_t)EPOLLOUT) && read_answer(connection))
        begin_request(connection);
}

static void on_churn(connection_t *connection, uint32_t events) {
    (void)events;
    if (connection->arrived < bytes && !read_answer(connection))
        return;
    /* Most often the end has come with the answer; else the next event tells of it. */
    ssize_t count = recv(connection->fd, chunk, 1, MSG_DONTWAIT);
    if (would_block(count))
        return;
    check(count == 0, "something else than the end follows the answer");
    close(connection->fd);
    open_connection(connection);
    begin_request(connection);
}

/* ---- Streams ---- */

/* What is sent says where it belongs: byte n of a stream is n * 7, modulo 251. */
static char byte_at(uint64_t position) {
    return (char)(position % 251 * 7 % 251);
}

static void on_send(connection_t *connection, uint32_t events) {
    (void)events;
    size_t offset = connection->number % 251;
    ssize_t count =
        send(connection->fd, connection->request + offset, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    check(count >= 0 || would_block(count), "the server does not take what is sent");
    connection->number += count > 0 ? (uint64_t)count : 0;
}

static void on_receive(connection_t *connection, uint32_t events) {
    (void)events;
    ssize_t count = recv(connection->fd, chunk, bytes, MSG_DONTWAIT);
    if (would_block(count))
        return;
    check(count > 0, "the server has closed a connection");
    connection->number += (uint64_t)count;
    check(chunk[count - 1] == byte_at(connection->number - 1), "wrong bytes have come");
}

/* ---- Running ---- */

static void raise_limit(void) {
    struct rlimit limit;
    check(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit failed");
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void run(void (*on_event)(connection_t *connection, uint32_t events)) {
    static struct epoll_event ready[BATCH];
    for (;;) {
        int count = epoll_wait(epoll, ready, BATCH, -1);
        check(count >= 0 || errno == EINTR, "epoll_wait failed");
        for (int i = 0; i < count; i++)
            on_event((connection_t *)ready[i].data.ptr, ready[i].events);
    }
}

/* All connections are there before the first request leaves. */
static connection_t *open_all(unsigned count) {
    connection_t *connections = (connection_t *)calloc(count, sizeof(*connections));
    check(connections != NULL, "no memory");
    for (unsigned i = 0; i < count; i++) {
        open_connection(&connections[i]);
        connections[i].number = (uint64_t)i << 32;
        connections[i].request = (char *)malloc(bytes + 251);
        check(connections[i].request != NULL, "no memory");
        for (size_t byte = 0; byte < bytes + 251; byte++)
            connections[i].request[byte] = byte_at(byte);
    }
    return connections;
}

static void run_requests(unsigned count,
                         void (*on_event)(connection_t *connection, uint32_t events)) {
    connection_t *connections = open_all(count);
    for (unsigned i = 0; i < count; i++)
        begin_request(&connections[i]);
    run(on_event);
}

static void run_streams(unsigned count, uint32_t interest,
                        void (*on_event)(connection_t *connection, uint32_t events)) {
    connection_t *connections = open_all(count);
    for (unsigned i = 0; i < count; i++) {
        connections[i].number = 0;
        fix_buffers(connections[i].fd);
        watch(&connections[i], interest);
    }
    run(on_event);
}

int main(int argc, char **argv) {
    check(argc >= 5, "usage: load echo|churn|send|receive PORT CONNECTIONS BYTES [IDLE]");
    unsigned connections = (unsigned)strtoul(argv[3], NULL, 10);
    unsigned idle = argc > 5 ? (unsigned)strtoul(argv[5], NULL, 10) : 0;
    bytes = strtoul(argv[4], NULL, 10);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    raise_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    check(epoll >= 0, "epoll_create1 failed");
    for (unsigned i = 0; i < idle; i++)
        connect_to_server();
    if (strcmp(argv[1], "echo") == 0)
        run_requests(connections, on_echo);
    else if (strcmp(argv[1], "churn") == 0)
        run_requests(connections, on_churn);
    else if (strcmp(argv[1], "send") == 0)
        run_streams(connections, EPOLLOUT, on_send);
    else if (strcmp(argv[1], "receive") == 0 && bytes <= CHUNK)
        run_streams(connections, EPOLLIN, on_receive);
    check(0, "an unknown kind of load");
}
