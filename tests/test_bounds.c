/* test_bounds.c - what keeps streams within bounds: watermarks, caps, timeouts, the listen limit,
 * fairness, running out of descriptors, and the pump with its backpressure. */
#include "net.h"

#ifndef EVLOOP_NO_NET

static void on_write_count(evl_write_t *req, int status) {
    CHECK_EQ(status, 0);
    (*(int *)req->data)++;
}

static void on_write_any(evl_write_t *req, int status) {
    (void)status;
    (*(int *)req->data)++;
}

static void on_write_never(evl_write_t *req, int status) {
    (void)req;
    (void)status;
    NET_FAIL("this write was refused: its callback must not come");
}

/* ---- Watermarks ------------------------------------------------------------------------------ */

/* A connection whose writes queue wholly, since it is still connecting, and its flow. */
typedef struct {
    evl_tcp_t tcp;
    evl_connect_t connect;
    evl_write_t writes[64];
    int started;
    int written;
    int connected;
    size_t offset; /* of the next byte to be written */
    net_log_t log;
    evl_os_sock_t listener;
    evl_os_sock_t peer;
    int close_at; /* the letter at which the flow callback closes; 0: none */
    int inside;   /* of a call that must not call back */
} valve_t;

static void valve_on_flow(evl_stream_t *stream, evl_flow_t flow) {
    valve_t *valve = (valve_t *)stream->data;
    CHECK_EQ(valve->inside, 0);
    CHECK_PTR(stream, &valve->tcp);
    net_note(&valve->log, flow == EVL_FLOW_PAUSE ? 'P' : 'R');
    CHECK(flow == EVL_FLOW_PAUSE || flow == EVL_FLOW_RESUME);
    if (valve->close_at == (flow == EVL_FLOW_PAUSE ? 'P' : 'R'))
        evl_close((evl_handle_t *)stream, NULL);
}

static void valve_on_connect(evl_connect_t *req, int status) {
    valve_t *valve = (valve_t *)req->data;
    CHECK(status == 0 || (valve->close_at != 0 && status == EVL_ECANCELED));
    valve->connected = 1;
}

static void valve_open(valve_t *valve, net_t *net) {
    int port;
    memset(valve, 0, sizeof(*valve));
    valve->listener = net_raw_listen(1, &port);
    valve->peer = OS_NO_SOCK;
    valve->connect.data = valve;
    net_connect(net, &valve->tcp, &valve->connect, port, valve_on_connect);
    valve->tcp.data = valve;
}

/* Queues a write of `size` bytes. */
static int valve_write(valve_t *valve, size_t size) {
    evl_write_t *req = &valve->writes[valve->started];
    evl_buf_t buf = net_buf(valve->offset, size);
    CHECK_LT(valve->started, (int)NET_COUNT(valve->writes));
    req->data = &valve->written;
    valve->inside = 1;
    int result = evl_write(req, net_stream(&valve->tcp), &buf, 1, on_write_count);
    valve->inside = 0;
    if (result == 0) {
        valve->offset += size;
        valve->started++;
    }
    return result;
}

static void valve_close(valve_t *valve) {
    if (valve->peer != OS_NO_SOCK)
        os_close(valve->peer);
    os_close(valve->listener);
}

TEST(bounds_watermarks_refused) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    evl_stream_t *stream = net_stream(&tcp);
    CHECK_EQ(evl_stream_set_watermarks(stream, 2, 1, 0, valve_on_flow), EVL_EINVAL);
    CHECK_EQ(evl_stream_set_watermarks(stream, 1, 3, 2, valve_on_flow), EVL_EINVAL);
    CHECK_EQ(evl_stream_set_watermarks(stream, 2, 2, 2, valve_on_flow), 0);
    CHECK_EQ(evl_stream_set_watermarks(stream, 0, 2, 0, valve_on_flow), 0);
    CHECK_EQ(evl_stream_set_watermarks(stream, 0, 1, 1, NULL), 0);
    net_close(&net);
}

/* PAUSE once at `high`, RESUME once at `low`, neither from inside a call. */
TEST(bounds_watermarks_pause_and_resume) {
    net_t net;
    valve_t valve;
    net_open(&net);
    valve_open(&valve, &net);
    CHECK_EQ(evl_stream_set_watermarks(net_stream(&valve.tcp), 100, 1000, 0, valve_on_flow), 0);
    CHECK_EQ(valve_write(&valve, 999), 0);
    CHECK_EQ(valve_write(&valve, 1), 0);
    CHECK_EQ(valve_write(&valve, 5000), 0);
    CHECK_EQ(valve_write(&valve, 1), 0);
    CHECK_EQ(valve.log.length, 0);
    CHECK_EQ(valve.tcp.write_queue_size, 6001);
    NET_UNTIL(&net.loop, valve.written == 4);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_STR(valve.log.text, "PR");
    valve_close(&valve);
    net_close(&net);
    CHECK_STR(valve.log.text, "PR");
}

TEST(bounds_watermarks_not_reached) {
    net_t net;
    valve_t valve;
    net_open(&net);
    valve_open(&valve, &net);
    CHECK_EQ(evl_stream_set_watermarks(net_stream(&valve.tcp), 100, 1000, 0, valve_on_flow), 0);
    CHECK_EQ(valve_write(&valve, 999), 0);
    NET_UNTIL(&net.loop, valve.written == 1);
    for (int i = 0; i < 10; i++) /* each goes out at once */
        CHECK_EQ(valve_write(&valve, 900), 0);
    NET_UNTIL(&net.loop, valve.written == 11);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_STR(valve.log.text, "");
    valve_close(&valve);
    net_close(&net);
}

/* Many times around, with the kernel full in between. PAUSE comes only while the queue is high, and
 * RESUME while it is low. */
typedef struct {
    evl_tcp_t tcp;
    evl_write_t reqs[200];
    int written;
    int paused;
    long pauses;
    long resumes;
} tide_t;

static void tide_on_flow(evl_stream_t *stream, evl_flow_t flow) {
    tide_t *tide = (tide_t *)stream->data;
    CHECK_EQ(tide->paused, flow == EVL_FLOW_RESUME);
    tide->paused = flow == EVL_FLOW_PAUSE;
    if (flow == EVL_FLOW_PAUSE) {
        CHECK_GE(stream->write_queue_size, 20000);
        tide->pauses++;
    } else {
        CHECK_LE(stream->write_queue_size, 3000);
        tide->resumes++;
    }
}

TEST(bounds_watermarks_around_and_around) {
    net_t net;
    tide_t tide;
    size_t got = 0;
    net_open(&net);
    memset(&tide, 0, sizeof(tide));
    evl_os_sock_t peer = net_half_tight(&net, &tide.tcp);
    tide.tcp.data = &tide;
    size_t offset = net_stuff(&tide.tcp);
    CHECK_EQ(evl_stream_set_watermarks(net_stream(&tide.tcp), 3000, 20000, 0, tide_on_flow), 0);
    int started = 0;
    for (int round = 1; round <= 10; round++) {
        while (!tide.paused) {
            evl_buf_t buf = net_buf(offset, 3000);
            offset += 3000;
            CHECK_LT(started, (int)NET_COUNT(tide.reqs));
            tide.reqs[started].data = &tide.written;
            CHECK_EQ(evl_write(&tide.reqs[started], net_stream(&tide.tcp), &buf, 1, on_write_count),
                     0);
            started++;
            evl_run(&net.loop, EVL_RUN_NOWAIT);
        }
        CHECK_LE(tide.tcp.write_queue_size, 23000);
        CHECK_EQ(tide.pauses, round);
        *net_waiting() = "a RESUME\n";
        while (tide.paused) {
            net_raw_drain(peer, &got);
            evl_run(&net.loop, EVL_RUN_NOWAIT);
        }
        CHECK_EQ(tide.resumes, round);
    }
    net_pull(&net, peer, &got, offset);
    NET_UNTIL(&net.loop, tide.written == started);
    CHECK_EQ(tide.pauses, 10);
    CHECK_EQ(tide.resumes, 10);
    os_close(peer);
    net_close(&net);
}

TEST(bounds_watermarks_zero_low) {
    net_t net;
    valve_t valve;
    net_open(&net);
    valve_open(&valve, &net);
    CHECK_EQ(evl_stream_set_watermarks(net_stream(&valve.tcp), 0, 1, 0, valve_on_flow), 0);
    CHECK_EQ(valve_write(&valve, 1), 0);
    NET_UNTIL(&net.loop, valve.log.length == 2);
    CHECK_STR(valve.log.text, "PR");
    CHECK_EQ(valve.tcp.write_queue_size, 0);
    valve_close(&valve);
    net_close(&net);
}

/* Set while the queue is past the mark already. */
TEST(bounds_watermarks_set_late) {
    net_t net;
    valve_t valve;
    net_open(&net);
    valve_open(&valve, &net);
    CHECK_EQ(valve_write(&valve, 5000), 0);
    valve.inside = 1;
    CHECK_EQ(evl_stream_set_watermarks(net_stream(&valve.tcp), 100, 1000, 0, valve_on_flow), 0);
    valve.inside = 0;
    NET_UNTIL(&net.loop, valve.log.length == 2);
    CHECK_STR(valve.log.text, "PR");
    valve_close(&valve);
    net_close(&net);
}

TEST(bounds_watermarks_without_a_callback) {
    net_t net;
    valve_t valve;
    net_open(&net);
    valve_open(&valve, &net);
    CHECK_EQ(evl_stream_set_watermarks(net_stream(&valve.tcp), 1, 10, 1000, NULL), 0);
    CHECK_EQ(valve_write(&valve, 1000), 0);
    CHECK_EQ(valve_write(&valve, 1), EVL_ENOBUFS);
    NET_UNTIL(&net.loop, valve.written == 1);
    CHECK_EQ(valve_write(&valve, 1), 0);
    NET_UNTIL(&net.loop, valve.written == 2);
    valve_close(&valve);
    net_close(&net);
}

/* A refused write leaves everything as it was. */
TEST(bounds_cap) {
    net_t net;
    valve_t valve;
    evl_write_t req;
    evl_buf_t bufs[6];
    size_t got = 0;
    net_open(&net);
    valve_open(&valve, &net);
    CHECK_EQ(evl_stream_set_watermarks(net_stream(&valve.tcp), 100, 5000, 5000, valve_on_flow), 0);
    CHECK_EQ(valve_write(&valve, 5001), EVL_ENOBUFS);
    CHECK_EQ(valve.tcp.write_queue_size, 0);
    CHECK_EQ(valve_write(&valve, 4000), 0);
    CHECK_EQ(valve_write(&valve, 1001), EVL_ENOBUFS);
    CHECK_EQ(valve.tcp.write_queue_size, 4000);
    long blocks = test_alloc_live();
    for (size_t i = 0; i < NET_COUNT(bufs); i++)
        bufs[i] = net_buf(0, 1000);
    CHECK_EQ(evl_write(&req, net_stream(&valve.tcp), bufs, 6, on_write_never), EVL_ENOBUFS);
    CHECK_EQ(test_alloc_live(), blocks);
    CHECK_EQ(valve.tcp.write_queue_size, 4000);
    CHECK_EQ(valve.log.length, 0);
    CHECK_EQ(valve_write(&valve, 1000), 0); /* exactly to the cap */
    CHECK_EQ(valve_write(&valve, 0), 0);
    CHECK_EQ(valve_write(&valve, 1), EVL_ENOBUFS);
    NET_UNTIL(&net.loop, valve.written == 3);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    CHECK_STR(valve.log.text, "PR");
    CHECK_EQ(valve_write(&valve, 5000), 0);
    NET_UNTIL(&net.loop, valve.written == 4);
    valve.peer = net_raw_accept(valve.listener);
    net_pull(&net, valve.peer, &got, 10000);
    valve_close(&valve);
    net_close(&net);
}

TEST(bounds_close_in_the_flow_callback) {
    for (int letter = 0; letter < 2; letter++) {
        net_t net;
        valve_t valve;
        net_open(&net);
        valve_open(&valve, &net);
        valve.close_at = letter == 0 ? 'P' : 'R';
        CHECK_EQ(evl_stream_set_watermarks(net_stream(&valve.tcp), 0, 10, 0, valve_on_flow), 0);
        evl_buf_t buf = net_buf(0, 10);
        valve.writes[0].data = &valve.written;
        CHECK_EQ(evl_write(&valve.writes[0], net_stream(&valve.tcp), &buf, 1, on_write_any), 0);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
        CHECK_STR(valve.log.text, letter == 0 ? "P" : "PR");
        CHECK_EQ(valve.written, 1);
        valve_close(&valve);
        net_close(&net);
    }
}

/* A flow callback that is due when the stream is closed does not come any more. */
TEST(bounds_close_before_the_flow_callback) {
    net_t net;
    valve_t valve;
    net_open(&net);
    valve_open(&valve, &net);
    CHECK_EQ(evl_stream_set_watermarks(net_stream(&valve.tcp), 0, 10, 0, valve_on_flow), 0);
    NET_UNTIL(&net.loop, valve.connected);
    evl_buf_t buf = net_buf(0, 1000);
    valve.writes[0].data = &valve.written;
    CHECK_EQ(evl_write(&valve.writes[0], net_stream(&valve.tcp), &buf, 1, on_write_any), 0);
    evl_close(net_handle(&valve.tcp), NULL);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(valve.log.text, "");
    CHECK_EQ(valve.written, 1);
    valve_close(&valve);
    net_close(&net);
}

/* ---- Timeouts -------------------------------------------------------------------------------- */

/* A listener whose queue is full: further connects hang. Returns its port; at most 8 fillers. */
typedef struct {
    evl_os_sock_t listener;
    evl_os_sock_t fillers[8];
    int count;
    int port;
} hole_t;

static void hole_open(hole_t *hole) {
    hole->listener = net_raw_listen(0, &hole->port);
    struct sockaddr_in addr = net_addr(hole->port);
    for (hole->count = 0; hole->count < 8;) {
        evl_os_sock_t fd = net_raw_socket();
        net_raw_nonblock(fd);
        int result = connect(fd, net_sa(&addr), sizeof(addr));
        CHECK(result == 0 || os_in_progress());
        hole->fillers[hole->count++] = fd;
        if (result != 0 && os_poll(fd, POLLOUT, 20) == 0)
            return;
    }
    SKIP("this kernel's queue of connections does not fill up");
}

static void hole_close(hole_t *hole) {
    for (int i = 0; i < hole->count; i++)
        os_close(hole->fillers[i]);
    os_close(hole->listener);
}

typedef struct {
    evl_tcp_t tcp;
    evl_connect_t connect;
    evl_write_t write;
    evl_shutdown_t shut;
    net_log_t log;
    uint64_t ended_ns;
    int close_in_connect;
} patient_t;

static void patient_on_connect(evl_connect_t *req, int status) {
    patient_t *patient = (patient_t *)req->data;
    CHECK_EQ(status, EVL_ETIMEDOUT);
    patient->ended_ns = test_ns();
    net_note(&patient->log, 'c');
    if (patient->close_in_connect)
        evl_close(net_handle(&patient->tcp), NULL);
}

static void patient_on_write(evl_write_t *req, int status) {
    CHECK_EQ(status, EVL_ECANCELED);
    net_note(&((patient_t *)req->data)->log, 'w');
}

static void patient_on_shutdown(evl_shutdown_t *req, int status) {
    CHECK_LT(status, 0);
    net_note(&((patient_t *)req->data)->log, 's');
}

static void patient_start(patient_t *patient, net_t *net, int port, uint64_t connect_ms) {
    struct sockaddr_in addr = net_addr(port);
    memset(patient, 0, sizeof(*patient));
    CHECK_EQ(evl_tcp_init(&net->loop, &patient->tcp), 0);
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&patient->tcp), connect_ms, 0, 0), 0);
    patient->connect.data = patient->write.data = patient->shut.data = patient;
    CHECK_EQ(evl_tcp_connect(&patient->connect, &patient->tcp, net_sa(&addr), patient_on_connect),
             0);
}

TEST(bounds_connect_timeout) {
    net_t net;
    hole_t hole;
    patient_t patient;
    net_open(&net);
    hole_open(&hole);
    uint64_t start_ns = test_ns();
    patient_start(&patient, &net, hole.port, 40);
    evl_buf_t buf = net_buf(0, 10);
    CHECK_EQ(evl_write(&patient.write, net_stream(&patient.tcp), &buf, 1, patient_on_write), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(patient.log.text, "cw");
    CHECK_GE(patient.ended_ns - start_ns, 40000000u);
    CHECK_EQ(patient.tcp.write_queue_size, 0);
    CHECK_EQ(evl_is_writable(net_stream(&patient.tcp)), 0);
    CHECK_EQ(evl_write(&patient.write, net_stream(&patient.tcp), &buf, 1, on_write_never),
             EVL_EPIPE);
    hole_close(&hole);
    net_close(&net);
    CHECK_STR(patient.log.text, "cw");
}

TEST(bounds_connect_timeout_ends_a_shutdown) {
    for (int with_write = 0; with_write < 2; with_write++) {
        net_t net;
        hole_t hole;
        patient_t patient;
        evl_buf_t buf = net_buf(0, 10);
        net_open(&net);
        hole_open(&hole);
        patient_start(&patient, &net, hole.port, 20);
        if (with_write)
            CHECK_EQ(evl_write(&patient.write, net_stream(&patient.tcp), &buf, 1, patient_on_write),
                     0);
        CHECK_EQ(evl_shutdown(&patient.shut, net_stream(&patient.tcp), patient_on_shutdown), 0);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
        CHECK_STR(patient.log.text, with_write ? "cws" : "cs");
        hole_close(&hole);
        net_close(&net);
    }
}

TEST(bounds_connect_timeout_close_in_callback) {
    net_t net;
    hole_t hole;
    patient_t patient;
    net_open(&net);
    hole_open(&hole);
    patient_start(&patient, &net, hole.port, 20);
    patient.close_in_connect = 1;
    evl_buf_t buf = net_buf(0, 10);
    CHECK_EQ(evl_write(&patient.write, net_stream(&patient.tcp), &buf, 1, patient_on_write), 0);
    CHECK_EQ(evl_shutdown(&patient.shut, net_stream(&patient.tcp), patient_on_shutdown), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(patient.log.text, "cws");
    hole_close(&hole);
    net_close(&net);
}

/* Set or taken back while the connect is under way. */
TEST(bounds_connect_timeout_set_late) {
    net_t net;
    hole_t hole;
    patient_t patient;
    net_open(&net);
    hole_open(&hole);
    patient_start(&patient, &net, hole.port, 20);
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&patient.tcp), 0, 0, 0), 0);
    net_run_ms(&net.loop, 40);
    CHECK_STR(patient.log.text, "");
    uint64_t start_ns = test_ns();
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&patient.tcp), 20, 0, 0), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(patient.log.text, "c");
    CHECK_GE(patient.ended_ns - start_ns, 20000000u);
    hole_close(&hole);
    net_close(&net);
}

static void on_connect_flag(evl_connect_t *req, int status) {
    CHECK_EQ(status, 0);
    *(int *)req->data = 1;
}

/* Once connected, the timeout of connecting is over. */
TEST(bounds_connect_in_time) {
    net_t net;
    evl_tcp_t tcp;
    evl_connect_t req;
    int connected = 0, port;
    net_open(&net);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    struct sockaddr_in addr = net_addr(port);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&tcp), 5000, 0, 0), 0);
    req.data = &connected;
    CHECK_EQ(evl_tcp_connect(&req, &tcp, net_sa(&addr), on_connect_flag), 0);
    uint64_t start_ms = test_ms();
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(connected, 1);
    CHECK_LT(test_ms() - start_ms, 4900);
    os_close(listener);
    net_close(&net);
}

/* Reads that time out, and when the last progress before that was. */
typedef struct {
    evl_tcp_t tcp;
    size_t bytes;
    long timeouts;
    long ends;
    long stop_at; /* read_stop at this many timeouts; 0: never */
    long close_at;
    uint64_t since_ns; /* not later than the last progress, or the last timeout's due time */
    uint64_t wait_ns;
} reader_t;

static void reader_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    reader_t *reader = (reader_t *)stream->data;
    if (nread > 0) {
        net_check(buf->base, reader->bytes, (size_t)nread);
        reader->bytes += (size_t)nread;
    } else if (nread == EVL_ETIMEDOUT) {
        CHECK_GE(test_ns(), reader->since_ns + reader->wait_ns); /* never early */
        reader->since_ns += reader->wait_ns;
        reader->timeouts++;
        if (reader->timeouts == reader->stop_at)
            CHECK_EQ(evl_read_stop(stream), 0);
        if (reader->timeouts == reader->close_at)
            evl_close((evl_handle_t *)stream, NULL);
    } else if (nread < 0) {
        CHECK_EQ(nread, EVL_EOF);
        reader->ends++;
    }
}

static evl_os_sock_t reader_open(reader_t *reader, net_t *net, unsigned read_ms) {
    memset(reader, 0, sizeof(*reader));
    evl_os_sock_t peer = net_half(net, &reader->tcp);
    reader->tcp.data = reader;
    reader->wait_ns = read_ms * (uint64_t)1000000;
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&reader->tcp), 0, read_ms, 0), 0);
    return peer;
}

/* Again and again until stopped, and the data still comes. */
TEST(bounds_read_timeout_repeats) {
    for (int lent = 0; lent < 2; lent++) {
        net_t net;
        reader_t reader;
        net_open(&net);
        evl_os_sock_t peer = reader_open(&reader, &net, 15);
        net_run_ms(&net.loop, 25); /* nobody reads: nothing times out */
        reader.since_ns = test_ns();
        CHECK_EQ(evl_read_start(net_stream(&reader.tcp), lent ? NULL : net_alloc, reader_on_read),
                 0);
        NET_UNTIL(&net.loop, reader.timeouts == 2);
        CHECK_EQ(evl_is_active(net_handle(&reader.tcp)), 1);
        CHECK_EQ(evl_is_readable(net_stream(&reader.tcp)), 1);
        reader.since_ns = test_ns();
        net_raw_write(peer, net_bytes(0), 100);
        NET_UNTIL(&net.loop, reader.bytes == 100);
        NET_UNTIL(&net.loop, reader.timeouts == 3);
        reader.stop_at = 5;
        NET_UNTIL(&net.loop, reader.timeouts == 5);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0); /* stopped: nothing is left */
        CHECK_EQ(reader.timeouts, 5);
        os_close(peer);
        net_close(&net);
    }
}

/* Progress puts the timeout off, however long it goes on. */
TEST(bounds_read_timeout_and_progress) {
    net_t net;
    reader_t reader;
    net_open(&net);
    evl_os_sock_t peer = reader_open(&reader, &net, 60);
    reader.since_ns = test_ns();
    CHECK_EQ(evl_read_start(net_stream(&reader.tcp), NULL, reader_on_read), 0);
    uint64_t last_ns = test_ns();
    uint64_t gap_ns = 0; /* the longest that this machine kept us from sending */
    for (size_t sent = 0; sent < 150; sent += 10) {
        reader.since_ns = test_ns();
        net_raw_write(peer, net_bytes(sent), 10);
        NET_UNTIL(&net.loop, reader.bytes == sent + 10);
        net_run_ms(&net.loop, 10);
        if (test_ns() - last_ns > gap_ns)
            gap_ns = test_ns() - last_ns;
        last_ns = test_ns();
    }
    if (gap_ns < 55000000u)
        CHECK_EQ(reader.timeouts, 0);
    NET_UNTIL(&net.loop, reader.timeouts > 0);
    os_close(peer);
    net_close(&net);
}

TEST(bounds_read_timeout_set_late) {
    net_t net;
    reader_t reader;
    net_open(&net);
    evl_os_sock_t peer = reader_open(&reader, &net, 0);
    CHECK_EQ(evl_read_start(net_stream(&reader.tcp), NULL, reader_on_read), 0);
    net_run_ms(&net.loop, 10);
    reader.since_ns = test_ns();
    reader.wait_ns = 15000000u;
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&reader.tcp), 0, 15, 0), 0);
    NET_UNTIL(&net.loop, reader.timeouts == 2);
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&reader.tcp), 0, 0, 0), 0);
    net_run_ms(&net.loop, 30);
    CHECK_EQ(reader.timeouts, 2);
    os_close(peer);
    NET_UNTIL(&net.loop, reader.ends == 1);
    net_close(&net);
}

/* The end of reading is the end of its timeout. */
TEST(bounds_read_timeout_ends_with_the_data) {
    net_t net;
    reader_t reader;
    net_open(&net);
    evl_os_sock_t peer = reader_open(&reader, &net, 500);
    reader.since_ns = test_ns();
    CHECK_EQ(evl_read_start(net_stream(&reader.tcp), NULL, reader_on_read), 0);
    net_raw_write(peer, net_bytes(0), 10);
    os_close(peer);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(reader.ends, 1);
    if (test_ns() - reader.since_ns < 500000000u)
        CHECK_EQ(reader.timeouts, 0);
    net_close(&net);
}

TEST(bounds_read_timeout_close_in_callback) {
    net_t net;
    reader_t reader;
    net_open(&net);
    evl_os_sock_t peer = reader_open(&reader, &net, 10);
    reader.since_ns = test_ns();
    reader.close_at = 1;
    CHECK_EQ(evl_read_start(net_stream(&reader.tcp), NULL, reader_on_read), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(reader.timeouts, 1);
    os_close(peer);
    net_close(&net);
}

/* A timeout does not keep the loop alive that an unreferenced handle does not. */
TEST(bounds_read_timeout_and_references) {
    net_t net;
    reader_t reader;
    net_open(&net);
    evl_os_sock_t peer = reader_open(&reader, &net, 5000);
    CHECK_EQ(evl_read_start(net_stream(&reader.tcp), NULL, reader_on_read), 0);
    evl_unref(net_handle(&reader.tcp));
    uint64_t start_ms = test_ms();
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_LT(test_ms() - start_ms, 4900);
    CHECK_EQ(reader.timeouts, 0);
    os_close(peer);
    net_close(&net);
}

typedef struct {
    evl_tcp_t tcp;
    evl_write_t writes[3];
    evl_shutdown_t shut;
    net_log_t log;
    uint64_t since_ns;
    uint64_t wait_ns;
    int close_at; /* the write whose callback closes the stream; -1: none */
    int expect;
} writer_t;

static void writer_on_write(evl_write_t *req, int status) {
    writer_t *writer = (writer_t *)req->data;
    int index = (int)(req - writer->writes);
    if (status == EVL_ETIMEDOUT)
        CHECK_GE(test_ns(), writer->since_ns + writer->wait_ns);
    CHECK(status == writer->expect || (writer->close_at >= 0 && status == EVL_ECANCELED));
    net_note(&writer->log, (char)('0' + index));
    if (writer->close_at == index)
        evl_close(net_handle(&writer->tcp), NULL);
}

static void writer_on_shutdown(evl_shutdown_t *req, int status) {
    (void)status;
    net_note(&((writer_t *)req->data)->log, 's');
}

/* Fills the kernel, then queues three writes of 20,000 bytes; returns the peer. */
static evl_os_sock_t writer_open(writer_t *writer, net_t *net, unsigned write_ms, size_t *offset) {
    memset(writer, 0, sizeof(*writer));
    evl_os_sock_t peer = net_half_tight(net, &writer->tcp);
    writer->close_at = -1;
    writer->expect = EVL_ETIMEDOUT;
    writer->wait_ns = write_ms * (uint64_t)1000000;
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&writer->tcp), 0, 0, write_ms), 0);
    *offset = net_stuff(&writer->tcp);
    writer->since_ns = test_ns();
    for (size_t i = 0; i < NET_COUNT(writer->writes); i++) {
        evl_buf_t buf = net_buf(*offset, 20000);
        *offset += 20000;
        writer->writes[i].data = writer;
        CHECK_EQ(evl_write(&writer->writes[i], net_stream(&writer->tcp), &buf, 1, writer_on_write),
                 0);
    }
    writer->shut.data = writer;
    return peer;
}

/* All that is queued fails, in order, and no more is taken; reading goes on. */
TEST(bounds_write_timeout) {
    net_t net;
    writer_t writer;
    net_sink_t sink;
    size_t offset;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    evl_os_sock_t peer = writer_open(&writer, &net, 30, &offset);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(writer.log.text, "012");
    CHECK_EQ(writer.tcp.write_queue_size, 0);
    CHECK_EQ(evl_is_writable(net_stream(&writer.tcp)), 0);
    CHECK_EQ(evl_is_readable(net_stream(&writer.tcp)), 1);
    evl_buf_t buf = net_buf(0, 1);
    CHECK_EQ(evl_write(&writer.writes[0], net_stream(&writer.tcp), &buf, 1, on_write_never),
             EVL_EPIPE);
    CHECK_EQ(evl_try_write(net_stream(&writer.tcp), &buf, 1), EVL_EPIPE);
    CHECK_EQ(evl_shutdown(&writer.shut, net_stream(&writer.tcp), NULL), EVL_ENOTCONN);
    writer.tcp.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&writer.tcp), NULL, net_on_read), 0);
    net_raw_write(peer, net_bytes(0), 100);
    NET_UNTIL(&net.loop, sink.bytes == 100);
    os_close(peer);
    net_close(&net);
    CHECK_STR(writer.log.text, "012");
}

TEST(bounds_write_timeout_ends_a_shutdown) {
    net_t net;
    writer_t writer;
    size_t offset;
    net_open(&net);
    evl_os_sock_t peer = writer_open(&writer, &net, 15, &offset);
    CHECK_EQ(evl_shutdown(&writer.shut, net_stream(&writer.tcp), writer_on_shutdown), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(writer.log.text, "012s");
    os_close(peer);
    net_close(&net);
}

TEST(bounds_write_timeout_close_in_callback) {
    net_t net;
    writer_t writer;
    size_t offset;
    net_open(&net);
    evl_os_sock_t peer = writer_open(&writer, &net, 15, &offset);
    writer.close_at = 0;
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(writer.log.text, "012");
    os_close(peer);
    net_close(&net);
}

/* Every byte that the peer takes puts the timeout off; an empty queue has none. */
TEST(bounds_write_timeout_and_progress) {
    net_t net;
    writer_t writer;
    size_t offset, got = 0;
    net_open(&net);
    evl_os_sock_t peer = writer_open(&writer, &net, 60, &offset);
    writer.expect = 0;
    uint64_t last_ns = test_ns();
    *net_waiting() = "a slow peer to take all\n";
    while (writer.log.length < 3) {
        net_raw_drain(peer, &got); /* a few thousand bytes each time */
        net_run_ms(&net.loop, 5);
        if (test_ns() - last_ns > 55000000u)
            SKIP("this machine is too busy to tell");
        last_ns = test_ns();
    }
    CHECK_STR(writer.log.text, "012");
    net_pull(&net, peer, &got, offset);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    net_run_ms(&net.loop, 80);
    evl_buf_t buf = net_buf(offset, 1);
    CHECK_EQ(evl_try_write(net_stream(&writer.tcp), &buf, 1), 1);
    os_close(peer);
    net_close(&net);
}

TEST(bounds_write_timeout_set_late) {
    net_t net;
    writer_t writer;
    size_t offset, got = 0;
    net_open(&net);
    evl_os_sock_t peer = writer_open(&writer, &net, 20, &offset);
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&writer.tcp), 0, 0, 0), 0);
    net_run_ms(&net.loop, 40);
    CHECK_STR(writer.log.text, "");
    writer.since_ns = test_ns();
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&writer.tcp), 0, 0, 20), 0);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_STR(writer.log.text, "012");
    net_raw_drain(peer, &got);
    os_close(peer);
    net_close(&net);
}

/* Closing with every timeout armed ends all at once. */
TEST(bounds_close_with_timeouts_armed) {
    net_t net;
    hole_t hole;
    patient_t patient;
    writer_t writer;
    reader_t reader;
    size_t offset;
    net_open(&net);
    hole_open(&hole);
    struct sockaddr_in addr = net_addr(hole.port);
    memset(&patient, 0, sizeof(patient));
    CHECK_EQ(evl_tcp_init(&net.loop, &patient.tcp), 0);
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&patient.tcp), 5000, 5000, 5000), 0);
    CHECK_EQ(evl_tcp_connect(&patient.connect, &patient.tcp, net_sa(&addr), NULL), 0);
    evl_os_sock_t write_peer = writer_open(&writer, &net, 5000, &offset);
    writer.expect = EVL_ECANCELED;
    evl_os_sock_t read_peer = reader_open(&reader, &net, 5000);
    CHECK_EQ(evl_read_start(net_stream(&reader.tcp), NULL, reader_on_read), 0);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    uint64_t start_ms = test_ms();
    evl_close(net_handle(&patient.tcp), NULL);
    evl_close(net_handle(&writer.tcp), NULL);
    evl_close(net_handle(&reader.tcp), NULL);
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&reader.tcp), 0, 1, 0), EVL_EINVAL);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_LT(test_ms() - start_ms, 4900);
    CHECK_STR(writer.log.text, "012");
    CHECK_EQ(reader.timeouts, 0);
    hole_close(&hole);
    os_close(write_peer);
    os_close(read_peer);
    net_close(&net);
}

/* Huge values are no early ones. */
TEST(bounds_timeouts_huge) {
    net_t net;
    reader_t reader;
    net_open(&net);
    evl_os_sock_t peer = reader_open(&reader, &net, 1);
    CHECK_EQ(evl_stream_set_timeouts(net_stream(&reader.tcp), UINT64_MAX, UINT64_MAX, UINT64_MAX),
             0);
    CHECK_EQ(evl_read_start(net_stream(&reader.tcp), NULL, reader_on_read), 0);
    net_run_ms(&net.loop, 10);
    CHECK_EQ(reader.timeouts, 0);
    os_close(peer);
    net_close(&net);
}

/* ---- The listen limit ------------------------------------------------------------------------ */

static void close_guest(net_t *net, net_hall_t *hall, int index, int reset) {
    if (reset)
        CHECK_EQ(evl_tcp_close_reset(&hall->guests[index], NULL), 0);
    else
        evl_close(net_handle(&hall->guests[index]), NULL);
    evl_run(&net->loop, EVL_RUN_NOWAIT);
}

TEST(bounds_listen_limit) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    evl_os_sock_t clients[5];
    net_open(&net);
    int port = net_listen(&net, &server, 16, net_on_connection);
    server.data = hall;
    CHECK_EQ(evl_listen_limit(net_stream(&server), 2), 0);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 2);
    CHECK_LE(net_run_ms(&net.loop, 20), 8); /* those who wait cost nothing */
    CHECK_EQ(hall->calls, 2);
    close_guest(&net, hall, 0, 0);
    NET_UNTIL(&net.loop, hall->count == 3);
    net_run_ms(&net.loop, 10);
    CHECK_EQ(hall->calls, 3);
    close_guest(&net, hall, 1, 1);
    close_guest(&net, hall, 2, 0);
    NET_UNTIL(&net.loop, hall->count == 5);
    CHECK_EQ(hall->errors, 0);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        os_close(clients[i]);
    net_close(&net);
    free(hall);
}

TEST(bounds_listen_limit_at_run_time) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    evl_os_sock_t clients[12];
    net_open(&net);
    int port = net_listen(&net, &server, 16, net_on_connection);
    server.data = hall;
    CHECK_EQ(evl_listen_limit(net_stream(&server), 1), 0);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 1);
    CHECK_EQ(evl_listen_limit(net_stream(&server), 4), 0); /* raised */
    NET_UNTIL(&net.loop, hall->count == 4);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(hall->count, 4);
    CHECK_EQ(evl_listen_limit(net_stream(&server), 2), 0); /* lowered below what is open */
    close_guest(&net, hall, 0, 0);
    close_guest(&net, hall, 1, 0);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(hall->count, 4);
    close_guest(&net, hall, 2, 0);
    NET_UNTIL(&net.loop, hall->count == 5);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(hall->count, 5);
    CHECK_EQ(evl_listen_limit(net_stream(&server), 0), 0); /* none */
    NET_UNTIL(&net.loop, hall->count == 12);
    CHECK_EQ(evl_listen_limit(net_stream(&server), 12), 0);
    evl_os_sock_t late[4];
    for (size_t i = 0; i < NET_COUNT(late); i++)
        late[i] = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 15);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(hall->count, 15); /* 3 of them are closed: 12 count */
    for (size_t i = 0; i < NET_COUNT(late); i++)
        os_close(late[i]);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        os_close(clients[i]);
    net_close(&net);
    free(hall);
}

/* One after the other through the only place. */
TEST(bounds_listen_limit_of_one) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    evl_os_sock_t clients[60];
    net_open(&net);
    int port = net_listen(&net, &server, 64, net_on_connection);
    server.data = hall;
    CHECK_EQ(evl_listen_limit(net_stream(&server), 1), 0);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    for (int i = 0; i < (int)NET_COUNT(clients); i++) {
        NET_UNTIL(&net.loop, hall->count == i + 1);
        CHECK_EQ(hall->count, i + 1);
        evl_close(net_handle(&hall->guests[i]), NULL);
    }
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        os_close(clients[i]);
    net_close(&net);
    free(hall);
}

/* The listener goes first: its connections live on, and their ends touch nothing that is gone. */
TEST(bounds_listen_limit_outlived) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t *server = (evl_tcp_t *)malloc(sizeof(*server));
    net_sink_t sink;
    evl_os_sock_t clients[3];
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    int port = net_listen(&net, server, 16, net_on_connection);
    server->data = hall;
    CHECK_EQ(evl_listen_limit(net_stream(server), 3), 0);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 3);
    evl_close(net_handle(server), NULL);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    memset(server, 0xA5, sizeof(*server));
    close_guest(&net, hall, 1, 0);
    hall->guests[0].data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&hall->guests[0]), NULL, net_on_read), 0);
    net_raw_write(clients[0], net_bytes(0), 10);
    NET_UNTIL(&net.loop, sink.bytes == 10);
    for (int i = 0; i < 3; i += 2)
        close_guest(&net, hall, i, 0);
    for (size_t i = 0; i < sizeof(*server); i++)
        CHECK_EQ(((unsigned char *)server)[i], 0xA5);
    free(server);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        os_close(clients[i]);
    net_close(&net);
    free(hall);
}

/* A connection that was announced and is not taken holds its place, and the limit with it. */
TEST(bounds_listen_limit_and_kept_connections) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    evl_os_sock_t clients[4];
    net_open(&net);
    int port = net_listen(&net, &server, 16, net_on_connection);
    server.data = hall;
    hall->no_fetch = 1;
    CHECK_EQ(evl_listen_limit(net_stream(&server), 2), 0);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        clients[i] = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->calls == 1);
    CHECK_EQ(evl_listen_limit(net_stream(&server), 0), 0);
    net_run_ms(&net.loop, 5);
    CHECK_EQ(hall->calls, 1); /* no further one before it is taken */
    CHECK_EQ(evl_listen_limit(net_stream(&server), 2), 0);
    net_admit(hall, net_stream(&server));
    NET_UNTIL(&net.loop, hall->calls == 2);
    net_admit(hall, net_stream(&server));
    net_run_ms(&net.loop, 5);
    CHECK_EQ(hall->calls, 2);
    hall->no_fetch = 0;
    close_guest(&net, hall, 0, 0);
    NET_UNTIL(&net.loop, hall->count == 3);
    close_guest(&net, hall, 1, 0);
    NET_UNTIL(&net.loop, hall->count == 4);
    for (size_t i = 0; i < NET_COUNT(clients); i++)
        os_close(clients[i]);
    net_close(&net);
    free(hall);
}

TEST(bounds_listen_limit_refused) {
    net_t net;
    evl_tcp_t tcp;
    net_open(&net);
    CHECK_EQ(evl_tcp_init(&net.loop, &tcp), 0);
    CHECK_EQ(evl_listen_limit(net_stream(&tcp), 2), EVL_EINVAL);
    evl_close(net_handle(&tcp), NULL);
    evl_run(&net.loop, EVL_RUN_DEFAULT);
    evl_os_sock_t peer = net_half(&net, &tcp);
    CHECK_EQ(evl_listen_limit(net_stream(&tcp), 2), EVL_EINVAL);
    os_close(peer);
    net_close(&net);
}

/* ---- Running out of descriptors -------------------------------------------------------------- */

/* No spin, no silence; one error an episode; and everybody is served in the end. */
static void shortage(void (*begin)(void), void (*end)(void)) {
    enum { CLIENTS = 20 };
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    evl_os_sock_t clients[CLIENTS];
    net_open(&net);
    int port = net_listen(&net, &server, 64, net_on_connection);
    server.data = hall;
    for (int episode = 0; episode < 2; episode++) {
        int have = hall->count;
        for (int i = 0; i < CLIENTS / 2; i++)
            clients[have + i] = net_raw_connect(port);
        begin();
        NET_UNTIL(&net.loop, hall->errors == episode + 1);
        CHECK_EQ(hall->error, EVL_EMFILE);
        uint64_t cpu_ms = os_cpu_ms();
        CHECK_LE(net_run_ms(&net.loop, 250), 60);
        if (!test_slow())
            CHECK_LE(os_cpu_ms() - cpu_ms, 100);
        CHECK_EQ(hall->errors, episode + 1);
        CHECK_EQ(hall->count, have);
        end();
        NET_UNTIL(&net.loop, hall->count == have + CLIENTS / 2);
        CHECK_EQ(hall->errors, episode + 1);
    }
    evl_os_sock_t late = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == CLIENTS + 1);
    os_close(late);
    for (int i = 0; i < CLIENTS; i++)
        os_close(clients[i]);
    net_close(&net);
    free(hall);
}

static void dearth_begin_fault(void) {
    test_fault_set("accept", 1, -1, EMFILE);
}

TEST(bounds_accept_as_if_without_descriptors) {
    shortage(dearth_begin_fault, test_fault_clear);
}

#if !defined(_WIN32) /* which sets no limit to a process's handles */

/* Leaves no number free below the limit, and undoes it. */
typedef struct {
    int plugs[64];
    int count;
    struct rlimit before;
} dearth_t;

static dearth_t dearth;

static void dearth_begin(void) {
    int top = 0;
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            top = fd;
    for (dearth.count = 0;;) {
        int fd = dup(0);
        CHECK_GE(fd, 0);
        if (fd > top) {
            close(fd);
            break;
        }
        CHECK_LT(dearth.count, (int)NET_COUNT(dearth.plugs));
        dearth.plugs[dearth.count++] = fd;
    }
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &dearth.before), 0);
    struct rlimit limit = dearth.before;
    limit.rlim_cur = (rlim_t)top + 1;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(dup(0), -1);
    CHECK_EQ(errno, EMFILE);
}

static void dearth_end(void) {
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &dearth.before), 0);
    for (int i = 0; i < dearth.count; i++)
        close(dearth.plugs[i]);
}

TEST(bounds_accept_without_descriptors) {
    if (test_valgrind())
        SKIP("valgrind's own limit loses connections");
    shortage(dearth_begin, dearth_end);
}

#endif /* !_WIN32 */

/* A shortage that is over when the listener looks again is nobody's business. */
TEST(bounds_accept_short_shortage) {
    static const int errors[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS};
    for (size_t i = 0; i < NET_COUNT(errors); i++) {
        net_t net;
        net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
        evl_tcp_t server;
        net_open(&net);
        int port = net_listen(&net, &server, 4, net_on_connection);
        server.data = hall;
        test_fault_set("accept", 1, 1, errors[i]);
        evl_os_sock_t client = net_raw_connect(port);
        NET_UNTIL(&net.loop, hall->count == 1);
        CHECK_EQ(test_fault_hits("accept"), 1);
        CHECK_EQ(hall->errors, 0);
        test_fault_clear();
        os_close(client);
        net_close(&net);
        free(hall);
    }
}

/* What accept reports of connections that failed on the way is not the listener's error. */
TEST(bounds_accept_failed_connections) {
    static const int errors[] = {EINTR, ECONNABORTED, EPROTO, EPERM, ENETDOWN};
    for (size_t i = 0; i < NET_COUNT(errors); i++)
        for (int times = 1; times <= 3; times += 2) {
            net_t net;
            net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
            evl_tcp_t server;
            net_open(&net);
            int port = net_listen(&net, &server, 4, net_on_connection);
            server.data = hall;
            test_fault_set("accept", 1, times, errors[i]);
            evl_os_sock_t client = net_raw_connect(port);
            NET_UNTIL(&net.loop, hall->count == 1);
            CHECK_EQ(test_fault_hits("accept"), times);
            CHECK_EQ(hall->errors, 0);
            test_fault_clear();
            os_close(client);
            net_close(&net);
            free(hall);
        }
}

/* Any other error is told, does not spin, and the listener lives. */
TEST(bounds_accept_other_error) {
    net_t net;
    net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
    evl_tcp_t server;
    net_open(&net);
    int port = net_listen(&net, &server, 4, net_on_connection);
    server.data = hall;
    test_fault_set("accept", 1, 1, EINVAL);
    evl_os_sock_t first = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->errors == 1 || hall->count == 1);
    test_fault_clear();
    if (hall->errors == 1)
        CHECK_EQ(hall->error, EVL_EINVAL);
    evl_os_sock_t second = net_raw_connect(port);
    NET_UNTIL(&net.loop, hall->count == 2);
    CHECK_LE(hall->errors, 1);
    os_close(first);
    os_close(second);
    net_close(&net);
    free(hall);
}

/* Closed while it rests: nothing is waited for. */
TEST(bounds_close_listener_without_descriptors) {
    for (int in_callback = 0; in_callback < 2; in_callback++) {
        net_t net;
        net_hall_t *hall = (net_hall_t *)calloc(1, sizeof(*hall));
        evl_tcp_t server;
        net_open(&net);
        int port = net_listen(&net, &server, 4, net_on_connection);
        server.data = hall;
        test_fault_set("accept", 1, -1, EMFILE);
        evl_os_sock_t client = net_raw_connect(port);
        NET_UNTIL(&net.loop, test_fault_hits("accept") == (in_callback ? 2 : 1));
        evl_close(net_handle(&server), NULL);
        CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
        CHECK_LE(test_fault_hits("accept"), 2);
        test_fault_clear();
        os_close(client);
        net_close(&net);
        free(hall);
    }
}

/* ---- Fairness -------------------------------------------------------------------------------- */

typedef struct {
    evl_tcp_t tcp;
    evl_idle_t idle;
    long since;   /* callbacks since the last idle callback */
    long most;    /* … at most */
    size_t bytes; /* read */
} flood_t;

static void flood_on_idle(evl_idle_t *idle) {
    flood_t *flood = (flood_t *)idle->data;
    if (flood->since > flood->most)
        flood->most = flood->since;
    flood->since = 0;
}

static void flood_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    flood_t *flood = (flood_t *)stream->data;
    if (nread <= 0)
        return;
    net_check(buf->base, flood->bytes, (size_t)nread);
    flood->bytes += (size_t)nread;
    flood->since++;
}

typedef struct {
    flood_t *flood;
    size_t bytes;
    size_t flood_bytes; /* read by the other when this one was called first */
} modest_t;

static void modest_on_read(evl_stream_t *stream, ssize_t nread, const evl_buf_t *buf) {
    modest_t *modest = (modest_t *)stream->data;
    (void)buf;
    if (nread <= 0)
        return;
    if (modest->bytes == 0)
        modest->flood_bytes = modest->flood->bytes;
    modest->bytes += (size_t)nread;
}

/* One connection has masses to read in small pieces; the loop turns all the same, and the modest
 * neighbour, ready as well, is called early on. */
static void flood(evl_alloc_cb alloc_cb, size_t piece) {
    net_t net;
    flood_t busy;
    modest_t modest;
    evl_tcp_t tcp;
    evl_os_sock_t fds[2];
    size_t total = 0;
    net_open(&net);
    memset(&busy, 0, sizeof(busy));
    memset(&modest, 0, sizeof(modest));
    os_socketpair(fds);
    CHECK_EQ(evl_tcp_init(&net.loop, &busy.tcp), 0);
    CHECK_EQ(evl_tcp_open(&busy.tcp, fds[0]), 0);
    busy.tcp.data = busy.idle.data = &busy;
    evl_os_sock_t peer = net_half(&net, &tcp);
    tcp.data = &modest;
    modest.flood = &busy;
    for (;;) {
        long sent = os_send_now(fds[1], net_bytes(total), 20000);
        if (sent < 0)
            break;
        total += (size_t)sent;
    }
    CHECK_GT(total, 100 * piece);
    net_raw_write(peer, net_bytes(0), 1);
    net_raw_await(net_fileno(&tcp));
    CHECK_EQ(evl_read_start(net_stream(&busy.tcp), alloc_cb, flood_on_read), 0);
    CHECK_EQ(evl_read_start(net_stream(&tcp), NULL, modest_on_read), 0);
    CHECK_EQ(evl_idle_init(&net.loop, &busy.idle), 0);
    busy.idle.data = &busy;
    CHECK_EQ(evl_idle_start(&busy.idle, flood_on_idle), 0);
    NET_UNTIL(&net.loop, busy.bytes == total);
    CHECK_LE(busy.most, 32);
    CHECK_GE(modest.bytes, 1);
    CHECK_LE(modest.flood_bytes, 32 * piece);
    os_close(fds[1]);
    os_close(peer);
    net_close(&net);
}

TEST(bounds_fair_reads) {
    flood(net_alloc_small, 7);
}

TEST(bounds_fair_lent_reads) {
    test_short_set("recv", 16);
    flood(NULL, 16);
    test_fault_clear();
}

/* A write whose kernel takes a little each time does not hold the loop either. */
TEST(bounds_fair_writes) {
    net_t net;
    flood_t busy;
    evl_write_t req;
    int written = 0;
    size_t got = 0, least;
    net_open(&net);
    memset(&busy, 0, sizeof(busy));
    evl_os_sock_t peer = net_half(&net, &busy.tcp);
    busy.idle.data = &busy;
    CHECK_EQ(evl_idle_init(&net.loop, &busy.idle), 0);
    busy.idle.data = &busy;
    CHECK_EQ(evl_idle_start(&busy.idle, flood_on_idle), 0);
    test_short_set("send", 10);
    evl_buf_t buf = net_buf(0, 20000);
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&busy.tcp), &buf, 1, on_write_count), 0);
    least = busy.tcp.write_queue_size;
    CHECK_GE(least, 20000 - 32 * 10);
    *net_waiting() = "a write in small steps\n";
    while (!written) {
        evl_run(&net.loop, EVL_RUN_ONCE);
        CHECK_GE(busy.tcp.write_queue_size + 32 * 10, least);
        least = busy.tcp.write_queue_size;
    }
    test_fault_clear();
    net_pull(&net, peer, &got, 20000);
    os_close(peer);
    net_close(&net);
}

typedef struct {
    net_hall_t *hall;
    int before;
    int most;
    long turns;
} crowd_t;

static void crowd_on_idle(evl_idle_t *idle) {
    crowd_t *crowd = (crowd_t *)idle->data;
    int now = crowd->hall->count - crowd->before;
    if (now > crowd->most)
        crowd->most = now;
    crowd->before = crowd->hall->count;
    crowd->turns++;
}

TEST(bounds_fair_accepts) {
    enum { CLIENTS = OS_BACKLOG };
    net_t net;
    crowd_t crowd;
    evl_tcp_t server;
    evl_idle_t idle;
    evl_os_sock_t clients[CLIENTS];
    net_open(&net);
    memset(&crowd, 0, sizeof(crowd));
    crowd.hall = (net_hall_t *)calloc(1, sizeof(net_hall_t));
    int port = net_listen(&net, &server, 256, net_on_connection);
    server.data = crowd.hall;
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = net_raw_connect(port);
    CHECK_EQ(evl_idle_init(&net.loop, &idle), 0);
    idle.data = &crowd;
    CHECK_EQ(evl_idle_start(&idle, crowd_on_idle), 0);
    NET_UNTIL(&net.loop, crowd.hall->count == CLIENTS);
    CHECK_LE(crowd.most, 32);
    CHECK_GE(crowd.turns, CLIENTS / 32);
    for (int i = 0; i < CLIENTS; i++)
        os_close(clients[i]);
    net_close(&net);
    free(crowd.hall);
}

/* ---- Pump ------------------------------------------------------------------------------------ */

/* source (raw) -> from => to -> drain (raw) */
typedef struct {
    evl_tcp_t from, to;
    evl_pump_t req;
    evl_os_sock_t source, drain;
    int calls;
    int status;
    size_t sent, got;
} pump_t;

static void pump_on_end(evl_pump_t *req, int status) {
    pump_t *pump = (pump_t *)req->data;
    CHECK_PTR(req, &pump->req);
    pump->calls++;
    pump->status = status;
}

/* tight: with little room in the kernel, so that all but a few thousand bytes is the pump's matter. */
static void pump_open(pump_t *pump, net_t *net, int tight) {
    memset(pump, 0, sizeof(*pump));
    pump->source = tight ? net_half_tight(net, &pump->from) : net_half(net, &pump->from);
    pump->drain = tight ? net_half_tight(net, &pump->to) : net_half(net, &pump->to);
    memset(&pump->req, 0xA5, sizeof(pump->req));
    pump->req.data = pump;
}

static void pump_start(pump_t *pump) {
    CHECK_EQ(evl_pump(&pump->req, net_stream(&pump->from), net_stream(&pump->to), pump_on_end), 0);
    CHECK_EQ(pump->calls, 0);
    CHECK_EQ(pump->req.type, EVL_PUMP);
    CHECK_PTR(pump->req.from, &pump->from);
    CHECK_PTR(pump->req.to, &pump->to);
    CHECK_EQ(pump->req.transferred, 0);
}

/* Sends what goes in, up to `total` bytes of the test stream, then the end if `total` is reached. */
static void pump_feed(pump_t *pump, size_t total) {
    while (pump->sent < total) {
        size_t part = total - pump->sent < NET_CHUNK ? total - pump->sent : NET_CHUNK;
        long count = os_send_now(pump->source, net_bytes(pump->sent), part);
        if (count < 0) {
            CHECK(os_again());
            return;
        }
        pump->sent += (size_t)count;
        if (pump->sent == total)
            CHECK_EQ(os_shutdown(pump->source), 0);
    }
}

static void pump_close(pump_t *pump) {
    os_close(pump->source);
    os_close(pump->drain);
}

static void pump_whole(size_t total, int tight) {
    net_t net;
    pump_t pump;
    net_open(&net);
    pump_open(&pump, &net, tight);
    pump_start(&pump);
    CHECK_EQ(evl_loop_alive(&net.loop), 1);
    if (total == 0)
        CHECK_EQ(os_shutdown(pump.source), 0);
    *net_waiting() = "a pump to end\n";
    while (pump.calls == 0 || pump.got < total) {
        pump_feed(&pump, total);
        net_turn(&net.loop);
        CHECK_EQ(net_raw_drain(pump.drain, &pump.got), 0);
        CHECK_LE(pump.got, pump.req.transferred + pump.to.write_queue_size + NET_CHUNK);
    }
    CHECK_EQ(pump.status, 0);
    CHECK_EQ(pump.got, total);
    CHECK_EQ(pump.req.transferred, total);
    net_finish(&net.loop); /* nothing is left to wait for */
    /* `to` is left open, and both may be used again. */
    evl_buf_t buf = net_buf(total, 10);
    CHECK_EQ(evl_try_write(net_stream(&pump.to), &buf, 1), 10);
    pump.calls = 0;
    pump_start(&pump);
    NET_UNTIL(&net.loop, pump.calls == 1); /* the end again */
    CHECK_EQ(pump.status, 0);
    CHECK_EQ(pump.req.transferred, 0);
    pump_close(&pump);
    net_close(&net);
    CHECK_EQ(pump.calls, 1);
}

TEST(bounds_pump_10mb) {
    pump_whole((size_t)(test_slow() ? 2 : 10) << 20, 0);
}

TEST(bounds_pump_1mb_tight) {
    pump_whole(1 << (test_slow() ? 18 : 20), 1);
}

TEST(bounds_pump_in_slices) {
    *net_slices() = 1;
    pump_whole(1000000, 0);
    pump_whole(100000, 1);
}

TEST(bounds_pump_little) {
    pump_whole(1, 0);
    pump_whole(0, 0);
}

/* Nobody reads at the far end: the near end stalls, memory stays bounded, and nothing spins. */
TEST(bounds_pump_backpressure) {
    enum { TOTAL = 3000000 };
    net_t net;
    pump_t pump;
    net_open(&net);
    pump_open(&pump, &net, 1);
    size_t bytes = test_alloc_bytes();
    pump_start(&pump);
    for (int quiet = 0; quiet < 20;) {
        size_t before = pump.sent;
        pump_feed(&pump, TOTAL);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
        quiet = pump.sent == before ? quiet + 1 : 0;
    }
    CHECK_LT(pump.sent, 400000);
    CHECK_LE(net_run_ms(&net.loop, 20), 8);
    CHECK_LE(pump.to.write_queue_size, NET_CHUNK);
    CHECK_EQ(pump.calls, 0);
    *net_waiting() = "a slow pump to end\n";
    while (pump.got < TOTAL || pump.calls == 0) {
        net_raw_drain(pump.drain, &pump.got);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
        pump_feed(&pump, TOTAL);
        CHECK_LE(pump.to.write_queue_size, NET_CHUNK);
    }
    CHECK_EQ(pump.status, 0);
    CHECK_EQ(pump.req.transferred, TOTAL);
    CHECK_LE(test_alloc_peak() - bytes, 200000);
    pump_close(&pump);
    net_close(&net);
}

/* Much at once from the near end, little at a time to the far end: reads are cut in the middle, and
 * what was not taken must outlive the loop's own buffer, which others read into meanwhile. */
TEST(bounds_pump_keeps_the_rest) {
    enum { TOTAL = 600000 };
    net_t net;
    pump_t pump;
    evl_tcp_t other;
    net_sink_t sink;
    size_t fed = 0;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    memset(&pump, 0, sizeof(pump));
    pump.req.data = &pump;
    pump.source = net_half(&net, &pump.from);
    pump.drain = net_half_tight(&net, &pump.to);
    evl_os_sock_t peer = net_half(&net, &other);
    other.data = &sink;
    CHECK_EQ(evl_read_start(net_stream(&other), NULL, net_on_read), 0);
    pump_start(&pump);
    *net_waiting() = "a pump beside a reader\n";
    while (pump.calls == 0 || pump.got < TOTAL) {
        pump_feed(&pump, TOTAL);
        net_raw_write(peer, net_bytes(fed), 1000);
        fed += 1000;
        evl_run(&net.loop, EVL_RUN_NOWAIT);
        net_raw_drain(pump.drain, &pump.got);
    }
    CHECK_EQ(pump.req.transferred, TOTAL);
    NET_UNTIL(&net.loop, sink.bytes == fed);
    os_close(peer);
    pump_close(&pump);
    net_close(&net);
}

/* No memory for what `to` did not take. */
TEST(bounds_pump_without_memory) {
    net_t net;
    pump_t pump;
    net_open(&net);
    pump_open(&pump, &net, 1);
    net_stuff(&pump.to);
    pump_start(&pump);
    pump_feed(&pump, 1000000);
    test_alloc_fail(1, 1);
    NET_UNTIL(&net.loop, pump.calls == 1);
    CHECK_EQ(pump.status, EVL_ENOMEM);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    CHECK_EQ(evl_is_active(net_handle(&pump.from)), 0);
    pump_close(&pump);
    net_close(&net);
}

/* What was queued on `to` before goes first. */
TEST(bounds_pump_behind_queued_writes) {
    net_t net;
    pump_t pump;
    evl_write_t req;
    int written = 0;
    net_open(&net);
    pump_open(&pump, &net, 1);
    size_t offset = net_stuff(&pump.to);
    evl_buf_t buf = net_buf(offset, 50000);
    req.data = &written;
    CHECK_EQ(evl_write(&req, net_stream(&pump.to), &buf, 1, on_write_count), 0);
    pump.sent = offset + 50000; /* the source continues the stream */
    size_t total = pump.sent + 200000;
    pump_start(&pump);
    *net_waiting() = "a pump behind a write\n";
    while (pump.calls == 0 || pump.got < total) {
        pump_feed(&pump, total);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
        net_raw_drain(pump.drain, &pump.got);
    }
    CHECK_EQ(written, 1);
    CHECK_EQ(pump.req.transferred, 200000);
    pump_close(&pump);
    net_close(&net);
}

/* Both ways at once, as a proxy does. */
TEST(bounds_pump_both_ways) {
    enum { TOTAL = 500000 };
    net_t net;
    pump_t there, back;
    net_open(&net);
    pump_open(&there, &net, 1);
    memset(&back, 0, sizeof(back));
    back.req.data = &back;
    back.source = there.drain;
    back.drain = there.source;
    CHECK_EQ(evl_pump(&there.req, net_stream(&there.from), net_stream(&there.to), pump_on_end), 0);
    CHECK_EQ(evl_pump(&back.req, net_stream(&there.to), net_stream(&there.from), pump_on_end), 0);
    *net_waiting() = "two pumps to end\n";
    while (there.calls + back.calls < 2 || there.got + back.got < 2 * (size_t)TOTAL) {
        pump_feed(&there, TOTAL);
        pump_feed(&back, TOTAL);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
        net_raw_drain(there.drain, &there.got);
        net_raw_drain(back.drain, &back.got);
    }
    CHECK_EQ(there.status, 0);
    CHECK_EQ(back.status, 0);
    CHECK_EQ(there.got, TOTAL);
    CHECK_EQ(back.got, TOTAL);
    pump_close(&there);
    net_close(&net);
}

/* Started before `to` is connected. */
TEST(bounds_pump_into_a_connecting_stream) {
    net_t net;
    pump_t pump;
    evl_connect_t connect;
    int connected = 0, port;
    net_open(&net);
    memset(&pump, 0, sizeof(pump));
    pump.req.data = &pump;
    pump.source = net_half(&net, &pump.from);
    evl_os_sock_t listener = net_raw_listen(1, &port);
    pump_feed(&pump, 10000);
    net_raw_await(net_fileno(&pump.from));
    net_connect(&net, &pump.to, &connect, port, on_connect_flag);
    connect.data = &connected;
    pump_start(&pump);
    NET_UNTIL(&net.loop, pump.calls == 1);
    CHECK_EQ(pump.status, 0);
    CHECK_EQ(connected, 1);
    pump.drain = net_raw_accept(listener);
    net_pull(&net, pump.drain, &pump.got, 10000);
    os_close(listener);
    pump_close(&pump);
    net_close(&net);
}

TEST(bounds_pump_refused) {
    net_t net;
    pump_t pump;
    evl_loop_t other_loop;
    evl_tcp_t stranger, idle;
    evl_pump_t req;
    net_sink_t sink;
    net_open(&net);
    memset(&sink, 0, sizeof(sink));
    pump_open(&pump, &net, 0);
    evl_stream_t *from = net_stream(&pump.from);
    evl_stream_t *to = net_stream(&pump.to);
    CHECK_EQ(evl_pump(&req, from, to, NULL), EVL_EINVAL);
    CHECK_EQ(evl_pump(&req, from, from, pump_on_end), EVL_EINVAL);
    CHECK_EQ(evl_loop_init(&other_loop), 0);
    CHECK_EQ(evl_tcp_init(&other_loop, &stranger), 0);
    CHECK_EQ(evl_pump(&req, from, net_stream(&stranger), pump_on_end), EVL_EINVAL);
    CHECK_EQ(evl_pump(&req, net_stream(&stranger), to, pump_on_end), EVL_EINVAL);
    evl_close(net_handle(&stranger), NULL);
    evl_run(&other_loop, EVL_RUN_DEFAULT);
    CHECK_EQ(evl_loop_close(&other_loop), 0);
    CHECK_EQ(evl_tcp_init(&net.loop, &idle), 0);
    CHECK_EQ(evl_pump(&req, net_stream(&idle), to, pump_on_end), EVL_ENOTCONN);
    CHECK_LT(evl_pump(&req, from, net_stream(&idle), pump_on_end), 0);
    pump.from.data = &sink;
    CHECK_EQ(evl_read_start(from, NULL, net_on_read), 0);
    CHECK_EQ(evl_pump(&req, from, to, pump_on_end), EVL_EALREADY);
    CHECK_EQ(evl_read_stop(from), 0);
    CHECK_EQ(evl_loop_alive(&net.loop), 0);
    pump_start(&pump);
    CHECK_LT(evl_pump(&req, from, to, pump_on_end), 0); /* the second of its kind */
    CHECK_EQ(evl_read_start(from, NULL, net_on_read), EVL_EALREADY);
    pump_feed(&pump, 1000);
    NET_UNTIL(&net.loop, pump.calls == 1);
    CHECK_EQ(pump.req.transferred, 1000);
    pump_close(&pump);
    net_close(&net);
}

TEST(bounds_pump_from_a_reset_stream) {
    net_t net;
    pump_t pump;
    net_need_resets();
    net_open(&net);
    pump_open(&pump, &net, 0);
    pump_start(&pump);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    net_raw_reset(pump.source);
    NET_UNTIL(&net.loop, pump.calls == 1);
    CHECK_EQ(pump.status, EVL_ECONNRESET);
    os_close(pump.drain);
    net_close(&net);
    CHECK_EQ(pump.calls, 1);
}

/* Who is to get the bytes is gone: before any came, or while they wait for room. */
TEST(bounds_pump_to_a_closed_stream) {
    for (int tight = 0; tight < 2; tight++) {
        net_t net;
        pump_t pump;
        net_open(&net);
        pump_open(&pump, &net, tight);
        pump_start(&pump);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
        if (tight) {
            pump_feed(&pump, 3000000);
            evl_run(&net.loop, EVL_RUN_NOWAIT);
        }
        os_close(pump.drain);
        *net_waiting() = "a pump to fail\n";
        while (pump.calls == 0) {
            pump_feed(&pump, 300000000);
            CHECK(evl_run(&net.loop, EVL_RUN_NOWAIT) != 0 || pump.calls > 0);
            if (pump.calls == 0)
                test_sleep_ms(1);
        }
        CHECK(pump.status == EVL_EPIPE || pump.status == EVL_ECONNRESET);
        os_close(pump.source);
        net_close(&net);
        CHECK_EQ(pump.calls, 1);
    }
}

/* Either stream, or both, closed: while nothing moves, while bytes wait for `to`, and when `to` has
 * just got room for them. One callback, EVL_ECANCELED; what was read is still written if `to` lives. */
typedef enum { PUMP_IDLE, PUMP_FULL, PUMP_ROOM, PUMP_STATES } pump_state_t;

static void pump_cancel(pump_state_t state, int close_from, int close_to) {
    net_t net;
    pump_t pump;
    net_open(&net);
    pump_open(&pump, &net, 1);
    pump_start(&pump);
    evl_run(&net.loop, EVL_RUN_NOWAIT);
    for (int i = 0; i < 50 && state != PUMP_IDLE; i++) {
        pump_feed(&pump, 3000000);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
    }
    if (state == PUMP_ROOM)
        net_raw_drain(pump.drain, &pump.got);
    if (close_from)
        evl_close(net_handle(&pump.from), NULL);
    if (close_to)
        evl_close(net_handle(&pump.to), NULL);
    CHECK_EQ(pump.calls, 0);
    *net_waiting() = "a pump to be cancelled\n";
    while (pump.calls == 0) {
        CHECK(evl_run(&net.loop, EVL_RUN_NOWAIT) != 0 || pump.calls > 0);
        net_raw_drain(pump.drain, &pump.got);
    }
    CHECK_EQ(pump.status, EVL_ECANCELED);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    net_raw_drain(pump.drain, &pump.got);
    CHECK_EQ(pump.got, pump.req.transferred);
    if (!close_to) {
        evl_buf_t buf = net_buf(pump.got, 10);
        CHECK_EQ(evl_try_write(net_stream(&pump.to), &buf, 1), 10);
    }
    if (!close_from)
        CHECK_EQ(evl_read_start(net_stream(&pump.from), NULL, net_on_read), 0);
    evl_read_stop(net_stream(&pump.from));
    pump_close(&pump);
    net_close(&net);
    CHECK_EQ(pump.calls, 1);
}

TEST(bounds_pump_close_from) {
    for (int state = 0; state < PUMP_STATES; state++)
        pump_cancel((pump_state_t)state, 1, 0);
}

TEST(bounds_pump_close_to) {
    for (int state = 0; state < PUMP_STATES; state++)
        pump_cancel((pump_state_t)state, 0, 1);
}

TEST(bounds_pump_close_both) {
    for (int state = 0; state < PUMP_STATES; state++)
        pump_cancel((pump_state_t)state, 1, 1);
}

static void pump_on_end_close(evl_pump_t *req, int status) {
    pump_on_end(req, status);
    evl_close((evl_handle_t *)req->from, NULL);
    evl_close((evl_handle_t *)req->to, NULL);
}

TEST(bounds_pump_close_in_callback) {
    net_t net;
    pump_t pump;
    net_open(&net);
    pump_open(&pump, &net, 0);
    CHECK_EQ(evl_pump(&pump.req, net_stream(&pump.from), net_stream(&pump.to), pump_on_end_close),
             0);
    pump_feed(&pump, 1000);
    CHECK_EQ(evl_run(&net.loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(pump.calls, 1);
    CHECK_EQ(pump.status, 0);
    net_raw_drain(pump.drain, &pump.got);
    CHECK_EQ(pump.got, 1000);
    pump_close(&pump);
    net_close(&net);
}

/* evl_loop_destroy ends a pump like any other request. */
TEST(bounds_pump_loop_destroy) {
    net_t net;
    pump_t pump;
    net_open(&net);
    pump_open(&pump, &net, 1);
    pump_start(&pump);
    for (int i = 0; i < 20; i++) {
        pump_feed(&pump, 3000000);
        evl_run(&net.loop, EVL_RUN_NOWAIT);
    }
    CHECK_EQ(evl_loop_destroy(&net.loop, 1000), 0);
    CHECK_EQ(pump.calls, 1);
    CHECK_EQ(pump.status, EVL_ECANCELED);
    pump_close(&pump);
    CHECK_EQ(test_open_fds(), net.fds);
}

#endif /* !EVLOOP_NO_NET */
