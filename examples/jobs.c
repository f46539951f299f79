/* cc -O2 -o jobs examples/jobs.c -pthread */

/* jobs - a game gives its simulation to a pool of its own, and draws meanwhile.
 *
 *     ./jobs [THREADS]        one second, 60 frames; 3 threads unless told
 *
 * The simulation moves 120,000 particles around some suns. Each step reads one array and writes
 * the other, in jobs that have nothing to do with each other. A frame queues the jobs of the next
 * step, draws meanwhile what the last one has left, and then gives the loop a slice (evl_run_for), in
 * which it hears of the jobs that are done. When some are not done by the end of the slice, the next
 * frame draws the same step again: the step is late, not the frame.
 *
 * In the end all steps are done once more without a pool, and must come out the same. Frame times are
 * what a frame does, without the wait for the next one. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FRAMES = 60,
    PARTICLES = 120000,
    JOBS = 24,    /* of a step */
    SUBSTEPS = 4, /* of a step, in one job */
    SUNS = 3,
    WIDTH = 60, /* of the picture, in characters */
    HEIGHT = 16
};

#define FRAME_NS ((uint64_t)1000000000 / 60)
#define SLICE_NS ((uint64_t)5000000)

typedef struct {
    float x, y, dx, dy;
} particle_t;

static const struct {
    float x, y, mass;
} suns[SUNS] = {{0.3f, 0.4f, 0.020f}, {0.7f, 0.6f, 0.015f}, {0.5f, 0.8f, 0.008f}};

typedef struct {
    evl_work_t work;
    const particle_t *from;
    particle_t *to;
    int first, count;
} job_t;

static evl_loop_t loop;
static particle_t particles[2][PARTICLES];
static int front; /* the array that is drawn; the other one is being written */
static job_t jobs[JOBS];
static int left;  /* jobs of the step that are not done */
static int steps; /* that are */
static int is_stepping;
static unsigned picture[HEIGHT][WIDTH]; /* particles in each place */
static int late_frames;                 /* that drew the same step again */
static evl_histogram_t frame_ns;

static void check(int result, const char *what) {
    if (result >= 0)
        return;
    fprintf(stderr, "jobs: %s: %s\n", what, evl_strerror(result));
    exit(1);
}

/* ---- The simulation ---- */

/* Everybody is at another place, and moves around the middle. */
static void place_particles(particle_t *out) {
    uint32_t noise = 12345;
    for (int i = 0; i < PARTICLES; i++) {
        noise = noise * 1664525u + 1013904223u;
        out[i].x = (float)(noise >> 16) / 65536.0f;
        noise = noise * 1664525u + 1013904223u;
        out[i].y = (float)(noise >> 16) / 65536.0f;
        out[i].dx = (0.5f - out[i].y) * 0.005f;
        out[i].dy = (out[i].x - 0.5f) * 0.005f;
    }
}

static particle_t move_particle(particle_t p) {
    for (int i = 0; i < SUNS; i++) { /* on a plane a sun pulls by 1 / distance */
        float x = suns[i].x - p.x, y = suns[i].y - p.y;
        float pull = suns[i].mass * 0.001f / (x * x + y * y + 0.001f);
        p.dx += x * pull;
        p.dy += y * pull;
    }
    p.x += p.dx;
    p.y += p.dy;
    return p;
}

static void move_particles(const particle_t *from, particle_t *to, int count) {
    for (int i = 0; i < count; i++) {
        particle_t p = from[i];
        for (int step = 0; step < SUBSTEPS; step++)
            p = move_particle(p);
        to[i] = p;
    }
}

/* On a thread of the pool. */
static void do_job(evl_work_t *work) {
    job_t *job = (job_t *)work->data;
    move_particles(job->from + job->first, job->to + job->first, job->count);
}

/* On the game's. */
static void on_job_done(evl_work_t *work, int status) {
    (void)work;
    check(status, "evl_queue_work");
    left--;
}

static void start_step(void) {
    for (int i = 0; i < JOBS; i++) {
        job_t *job = &jobs[i];
        job->work.data = job;
        job->from = particles[front];
        job->to = particles[1 - front];
        job->first = i * (PARTICLES / JOBS);
        job->count = PARTICLES / JOBS;
        check(evl_queue_work(&loop, &job->work, do_job, on_job_done), "evl_queue_work");
    }
    left = JOBS;
    is_stepping = 1;
}

/* ---- The game ---- */

static void draw(void) {
    const particle_t *from = particles[front];
    memset(picture, 0, sizeof(picture));
    for (int i = 0; i < PARTICLES; i++) {
        if (from[i].x >= 0 && from[i].x < 1 && from[i].y >= 0 && from[i].y < 1)
            picture[(int)(from[i].y * (float)HEIGHT)][(int)(from[i].x * (float)WIDTH)]++;
    }
}

/* The loop's slice. A run for some time ends early when there is nothing to do, but here a job may end
 * at any moment. */
static void run_slice(void) {
    uint64_t end = evl_hrtime() + SLICE_NS, now;
    while (left > 0 && (now = evl_hrtime()) < end)
        check(evl_run_for(&loop, end - now), "evl_run_for");
}

static void run_frame(void) {
    uint64_t began = evl_hrtime();
    if (!is_stepping)
        start_step();
    draw();
    run_slice();
    if (left == 0) {
        front = 1 - front;
        is_stepping = 0;
        steps++;
    } else {
        late_frames++;
    }
    evl_histogram_record(&frame_ns, evl_hrtime() - began);
}

/* Waits for the next refresh of the screen: sleeps the whole milliseconds and spins the rest. */
static void wait_until(uint64_t due) {
    uint64_t now = evl_hrtime();
    if (now + 2000000 < due)
        evl_sleep((unsigned)((due - now) / 1000000 - 1));
    while (evl_hrtime() < due)
        continue;
}

/* ---- The end ---- */

static void print_picture(void) {
    static const char shades[] = " .:-=+*#%@";
    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++) {
            unsigned shade = 0; /* one more for twice as many */
            while (shade < 9 && picture[y][x] >> shade > 8)
                shade++;
            putchar(shades[shade]);
        }
        putchar('\n');
    }
}

static void print_times(const char *name, const evl_histogram_t *ns) {
    printf("%-12s %8llu %10.3f %10.3f %10.3f\n", name, (unsigned long long)evl_histogram_count(ns),
           evl_histogram_mean(ns) / 1e6, (double)evl_histogram_percentile(ns, 99) / 1e6,
           (double)evl_histogram_max(ns) / 1e6);
}

static void print_table(evl_pool_t *pool) {
    static evl_pool_stats_t stats;
    do { /* the threads tell what they have done a moment after */
        check(evl_pool_stats(pool, &stats), "evl_pool_stats");
    } while (stats.completed < (uint64_t)steps * JOBS);
    printf("%d frames, %d of them late; %d steps of %d jobs on %u threads\n", FRAMES, late_frames,
           steps, JOBS, stats.threads);
    printf("%-12s %8s %10s %10s %10s\n", "", "count", "mean ms", "p99 ms", "max ms");
    print_times("frame", &frame_ns);
    print_times("job's wait", &stats.wait_ns);
    print_times("job's run", &stats.run_ns);
}

/* Whether the pool has come to what a single thread comes to. */
static int is_right(void) {
    static particle_t again[PARTICLES];
    place_particles(again);
    for (int i = 0; i < steps; i++)
        move_particles(again, again, PARTICLES);
    return memcmp(again, particles[front], sizeof(again)) == 0;
}

static int usage(void) {
    fputs("usage: jobs [THREADS]\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    evl_pool_options_t options = {3, JOBS, 0, "jobs"};
    evl_pool_t pool;
    uint64_t due;
    int right;
    if (argc > 1)
        options.threads = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2 || options.threads == 0)
        return usage();
    check(evl_loop_init(&loop), "evl_loop_init");
    check(evl_pool_init(&pool, &options), "evl_pool_init");
    check(evl_loop_set_pool(&loop, &pool), "evl_loop_set_pool");
    evl_histogram_reset(&frame_ns);
    place_particles(particles[0]);
    due = evl_hrtime();
    for (int frame = 0; frame < FRAMES; frame++) {
        run_frame();
        due += FRAME_NS;
        wait_until(due);
    }
    /* A step that is under way is seen to its end. */
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
    if (is_stepping) {
        front = 1 - front;
        steps++;
    }
    right = is_right();
    print_picture();
    print_table(&pool);
    printf("%s\n", right ? "the same as without a pool" : "NOT the same as without a pool");
    check(evl_loop_close(&loop), "evl_loop_close");
    check(evl_pool_close(&pool), "evl_pool_close");
    return !right;
}
