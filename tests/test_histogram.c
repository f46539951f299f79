/* Histograms: what they count exactly, and what to a sixteenth. */
#include "test.h"

static evl_histogram_t histogram;

static void empty(void) {
    memset(&histogram, 0xa5, sizeof(histogram)); /* reset relies on nothing */
    evl_histogram_reset(&histogram);
}

/* The same numbers in each run. */
static uint64_t random_state = 88172645463325252u;

static uint64_t random_number(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int near(double actual, double expected, double share) {
    double difference = actual > expected ? actual - expected : expected - actual;
    return difference <= (expected < 0 ? -expected : expected) * share;
}

static uint64_t percentile(double p) {
    return evl_histogram_percentile(&histogram, p);
}

static void check_empty(void) {
    CHECK_EQ(evl_histogram_count(&histogram), 0);
    CHECK_EQ(evl_histogram_min(&histogram), 0);
    CHECK_EQ(evl_histogram_max(&histogram), 0);
    CHECK_EQ(percentile(0), 0);
    CHECK_EQ(percentile(50), 0);
    CHECK_EQ(percentile(100), 0);
    CHECK(evl_histogram_mean(&histogram) == 0);
    CHECK(evl_histogram_stddev(&histogram) == 0);
}

TEST(histogram_is_empty_after_reset) {
    empty();
    check_empty();
    for (uint64_t i = 0; i < 1000; i++)
        evl_histogram_record(&histogram, i * i);
    CHECK_EQ(evl_histogram_count(&histogram), 1000);
    evl_histogram_reset(&histogram);
    check_empty();
    evl_histogram_record(&histogram, 7); /* nothing of the old ones is left in min and max */
    CHECK_EQ(evl_histogram_min(&histogram), 7);
    CHECK_EQ(evl_histogram_max(&histogram), 7);
    CHECK_EQ(percentile(50), 7);
}

static void check_single(uint64_t value) {
    empty();
    evl_histogram_record(&histogram, value);
    CHECK_EQ(evl_histogram_count(&histogram), 1);
    CHECK(evl_histogram_min(&histogram) == value);
    CHECK(evl_histogram_max(&histogram) == value);
    CHECK(percentile(0) == value); /* no percentile is above the greatest value */
    CHECK(percentile(50) == value);
    CHECK(percentile(100) == value);
    CHECK(near(evl_histogram_mean(&histogram), (double)value, 1e-15));
    CHECK(evl_histogram_stddev(&histogram) == 0);
}

TEST(histogram_of_a_single_value) {
    check_single(0);
    check_single(1);
    for (int power = 1; power < 64; power++) {
        check_single(UINT64_C(1) << power);
        check_single((UINT64_C(1) << power) - 1);
        check_single((UINT64_C(1) << power) + 1);
    }
    check_single(UINT64_MAX);
}

TEST(histogram_of_the_extremes) {
    empty();
    evl_histogram_record(&histogram, UINT64_MAX);
    evl_histogram_record(&histogram, 0);
    evl_histogram_record(&histogram, UINT64_MAX);
    CHECK_EQ(evl_histogram_count(&histogram), 3);
    CHECK_EQ(evl_histogram_min(&histogram), 0);
    CHECK(evl_histogram_max(&histogram) == UINT64_MAX);
    CHECK_EQ(percentile(0), 0);
    CHECK_EQ(percentile(33), 0);
    CHECK(percentile(34) == UINT64_MAX);
    CHECK(percentile(100) == UINT64_MAX);
    CHECK(near(evl_histogram_mean(&histogram), 18446744073709551616.0 / 3 * 2, 1e-12));
}

/* Up to 16 each value is one of its own. */
TEST(histogram_is_exact_for_small_values) {
    empty();
    for (uint64_t value = 0; value < 16; value++)
        evl_histogram_record(&histogram, value);
    for (unsigned i = 1; i <= 16; i++)
        CHECK_EQ(percentile(100.0 * i / 16), i - 1);
    CHECK_EQ(percentile(6.5), 1); /* 1 of 16 is 6.25 % */
    CHECK_EQ(percentile(93.75), 14);
    CHECK_EQ(percentile(93.76), 15);
}

TEST(histogram_percentiles_beyond_the_ends) {
    empty();
    for (uint64_t value = 3; value <= 9; value++)
        evl_histogram_record(&histogram, value);
    CHECK_EQ(percentile(0), 3);
    CHECK_EQ(percentile(-1), 3);
    CHECK_EQ(percentile(-1e300), 3);
    CHECK_EQ(percentile(100), 9);
    CHECK_EQ(percentile(100.5), 9);
    CHECK_EQ(percentile(1e300), 9);
}

static uint64_t values[20000];

#define VALUES (sizeof(values) / sizeof(values[0]))

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void record_all(void) {
    empty();
    for (size_t i = 0; i < VALUES; i++)
        evl_histogram_record(&histogram, values[i]);
    qsort(values, VALUES, sizeof(values[0]), by_value);
}

/* The least value that as many do not exceed as is asked for, and up to a sixteenth more. */
static void check_percentile(unsigned thousandths) {
    uint64_t rank = ((uint64_t)VALUES * thousandths + 99999) / 100000;
    uint64_t exact = values[rank == 0 ? 0 : rank - 1];
    uint64_t actual = percentile(thousandths / 1000.0);
    CHECK(actual >= exact);
    CHECK(actual - exact <= exact / 16);
}

static void check_all(void) {
    CHECK_EQ(evl_histogram_count(&histogram), VALUES);
    CHECK(evl_histogram_min(&histogram) == values[0]);
    CHECK(evl_histogram_max(&histogram) == values[VALUES - 1]);
    for (unsigned p = 0; p <= 100000; p += 125)
        check_percentile(p);
    check_percentile(99999);
    CHECK(percentile(100) == values[VALUES - 1]);
}

TEST(histogram_percentiles_of_random_data) {
    for (size_t i = 0; i < VALUES; i++) /* as many in each power of two */
        values[i] = random_number() >> (random_number() % 64);
    record_all();
    check_all();
    for (size_t i = 0; i < VALUES; i++) /* as many in each stretch */
        values[i] = random_number() % 1000000;
    record_all();
    check_all();
    for (size_t i = 0; i < VALUES; i++) /* most at one place, few far off */
        values[i] = i % 100 == 0 ? random_number() % 100000000 : 5000 + random_number() % 500;
    record_all();
    check_all();
}

/* Percentiles never fall as the share rises. */
TEST(histogram_percentiles_rise) {
    empty();
    for (size_t i = 0; i < VALUES; i++)
        evl_histogram_record(&histogram, random_number() >> (random_number() % 64));
    uint64_t before = 0;
    for (unsigned p = 0; p <= 10000; p++) {
        uint64_t now = percentile(p / 100.0);
        CHECK(now >= before);
        before = now;
    }
}

static void check_moments(void) {
    double mean = 0;
    double variance = 0;
    for (size_t i = 0; i < VALUES; i++)
        mean += (double)values[i] / (double)VALUES;
    for (size_t i = 0; i < VALUES; i++) {
        double distance = (double)values[i] - mean;
        variance += distance * distance / (double)VALUES;
    }
    double deviation = evl_histogram_stddev(&histogram);
    CHECK(near(evl_histogram_mean(&histogram), mean, 1e-9));
    CHECK(near(deviation * deviation, variance, 1e-5));
}

TEST(histogram_mean_and_deviation) {
    for (size_t i = 0; i < VALUES; i++)
        values[i] = random_number() % 100;
    record_all();
    check_moments();
    for (size_t i = 0; i < VALUES; i++)
        values[i] = random_number() >> (random_number() % 60);
    record_all();
    check_moments();
    empty();
    for (int i = 0; i < 1000; i++) { /* 2, 4, 4, 4, 5, 5, 7, 9: the mean is 5, the deviation 2 */
        static const uint64_t eight[] = {2, 4, 4, 4, 5, 5, 7, 9};
        evl_histogram_record(&histogram, eight[i % 8]);
    }
    CHECK(near(evl_histogram_mean(&histogram), 5, 1e-12));
    CHECK(near(evl_histogram_stddev(&histogram), 2, 1e-12));
}

/* Times of about a second in nanoseconds that differ little: their squares do not fit a double. */
TEST(histogram_deviation_of_large_values_that_differ_little) {
    for (size_t i = 0; i < VALUES; i++)
        values[i] = 1000000000 + random_number() % 10;
    record_all();
    check_moments();
    for (size_t i = 0; i < VALUES; i++)
        values[i] = UINT64_C(3600000000000) + random_number() % 1000;
    record_all();
    check_moments();
    empty();
    for (int i = 0; i < 1000; i++)
        evl_histogram_record(&histogram, 1234567890123);
    CHECK(evl_histogram_stddev(&histogram) < 1e-3);
}
