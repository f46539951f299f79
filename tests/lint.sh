#!/bin/sh
# Checks what a compiler does not: `sh tests/lint.sh`. Needs gcc or clang, nm and clang-format 14.
#
#     sh tests/lint.sh --self-test     each check must find a fault that is put into a sample header

set -u
cd "$(dirname "$0")/.." || exit 2

header=evloop.h
awk_dir=tests/lint
out=build/lint
max_function_lines=90
most_lines=30 # of what a check says
mkdir -p $out

compiler=$(command -v gcc || command -v clang) || { echo "lint needs gcc or clang" >&2; exit 2; }
formatter=$(command -v clang-format-14 || command -v clang-format) ||
    { echo "lint needs clang-format 14, for example: apt-get install clang-format-14" >&2; exit 2; }

# ---- The checks: each prints what is wrong, and nothing when all is well ----

check_contents() {
    awk -f $awk_dir/contents.awk $header
}

check_conditionals() {
    awk -f $awk_dir/functions.awk $header |
        awk -v file=$header '
            /^conditional/ { print file ":" $3 ": a conditional inside " $2 }
            /^unbalanced/ { print file ": the braces do not match" }
            /^function/ { count++ }
            END { if (count == 0) print file ": no functions" }'
}

check_function_length() {
    for file in $header $sources; do
        awk -f $awk_dir/functions.awk "$file" |
            awk -v file="$file" -v max=$max_function_lines \
                '/^function/ && $4 > max { print file ":" $3 ": " $2 " has " $4 " lines" }'
    done
}

check_comments() {
    awk -f $awk_dir/comments.awk $header
}

# Compiles the header as if it were the program's one .c file.
compile_header() { # OUTPUT FLAGS...
    object=$1
    shift
    $compiler -std=c99 -w -O0 -x c -c -o "$object" "$@" $header
}

check_exports() {
    compile_header $out/exports.o -DEVLOOP_IMPLEMENTATION || echo "does not compile"
    nm -g --defined-only $out/exports.o | awk '$3 !~ /^evl_/ { print "exported: " $3 }'
    nm --defined-only $out/exports.o |
        awk '$3 !~ /^evli?_/ && $3 !~ /\.[0-9]+$/ { print "not ours by its name: " $3 }'
}

check_static() {
    compile_header $out/static.o -DEVLOOP_STATIC || echo "does not compile"
    nm -g --defined-only $out/static.o | awk '{ print "exported under EVLOOP_STATIC: " $3 }'
    nm --defined-only $out/static.o |
        awk '$3 !~ /^evli?_/ && $3 !~ /\.[0-9]+$/ { print "not ours by its name: " $3 }'
}

# The macros that the header leaves defined under each way to include it.
check_macros() {
    for flags in -DEVLOOP_DECLARATIONS -DEVLOOP_IMPLEMENTATION -DEVLOOP_STATIC; do
        preprocess_macros '^_GNU_SOURCE$' $flags
        preprocess_macros '^(_GNU_SOURCE$|HAVE_DIRENT_TYPES$|uv_|UV_)' $flags -DEVLOOP_UV_NAMES
    done | sort -u
}

preprocess_macros() { # ALLOWED FLAGS...
    allowed=$1
    shift
    $compiler -std=gnu99 -E -dD -x c "$@" $header | awk -v allowed="$allowed" -v header=$header \
        -f $awk_dir/macros.awk
}

check_types() {
    awk -f $awk_dir/types.awk $header
}

check_format() {
    case $($formatter --version) in
    *version\ 14.*) ;;
    *) echo "needs clang-format 14, found $($formatter --version)" ;;
    esac
    $formatter --dry-run --Werror --style=file $header $sources 2>&1 | grep -E ': (error|warning):'
}

check_words() {
    grep -nwE 'TO''DO|FIX''ME|XX''X' $header $sources $texts
}

# A test whose TEST( is not at the start of its line would never run.
check_registration() {
    grep -nE '[^A-Za-z_#]TEST\(' $tests | grep -vE ':[0-9]+: \*|^[^:]*:[0-9]+:#define' |
        sed 's/^/not at the start of the line: /'
}

check_ascii_whitespace() {
    grep -nE '[[:space:]]+$' $header $sources $texts | sed 's/^/space at the end: /'
    grep -n "$(printf '\t')" $header $sources | sed 's/^/tab: /'
}

checks="contents conditionals function_length comments exports static macros types format words
        registration ascii_whitespace"

# ---- Running them ----

passed=0
failed=0

report() { # NAME PROBLEMS
    if [ -z "$2" ]; then
        passed=$((passed + 1))
        printf 'ok %d - %.100s\n' $((passed + failed)) "$1"
    else
        failed=$((failed + 1))
        printf 'not ok %d - %.100s\n' $((passed + failed)) "$1"
        printf '%s\n' "$2" | sed -e 's/^/# /' -e "${most_lines}q"
    fi
}

finish() {
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
    exit
}

existing() {
    for file in "$@"; do
        [ -f "$file" ] && echo "$file"
    done
}

lint() {
    tests=$(existing tests/test_*.c)
    sources="$(existing tests/*.[ch] tests/compile/*.[ch] examples/*.[ch] bench/*.[ch])"
    texts="$(existing README.md Makefile LICENSE tests/*.sh tests/*/*.sh tests/*/*.awk bench/*.sh bench/*.awk \
        bench/*.md .ci/run)"
    for name in $checks; do
        report $name "$(check_$name 2>&1)"
    done
    finish
}

# ---- The self-test ----

sample() {
    cat <<'SAMPLE'
/* sample.h - a header that every check accepts.

   Contents
     - [SECTION] One
     - [SECTION] Two
*/
#ifndef EVLOOP_H
#define EVLOOP_H
#ifdef __cplusplus
extern "C" {
#endif

/* ==== [SECTION] One ==== */

#if defined(EVLOOP_STATIC)
#define EVLOOP_API __attribute__((unused)) static
#else
#define EVLOOP_API extern
#endif

/* A thing. */
typedef struct evl_thing_t {
#if defined(_WIN32)
    long value;
#else
    int value;
#endif
} evl_thing_t;

/* Two calls under one comment. */
EVLOOP_API int evl_first(int value);
EVLOOP_API int evl_second(evl_thing_t *thing);

/* The API ends here. */

#ifdef __cplusplus
}
#endif
#endif

#if defined(EVLOOP_IMPLEMENTATION) || defined(EVLOOP_STATIC)

/* ==== [SECTION] Two ==== */

#define EVLI_TWICE(value) ((value)*2)

static const int evli_table[] = {1, 2, 3};

__attribute__((unused)) static int evli_helper(int value) {
    return EVLI_TWICE(value) + evli_table[0] + '{';
}

EVLOOP_API int evl_first(int value) {
    /* mark */
    return evli_helper(value);
}

EVLOOP_API int evl_second(evl_thing_t *thing) {
    return thing->value;
}

#endif
SAMPLE
}

# Puts a fault into the sample; the check must fail.
breaks() { # CHECK SED-SCRIPT
    sample | sed "$2" >$header
    problems=$(check_$1 2>&1)
    if cmp -s $header $out/good.h; then
        report "$1 finds: $2" "the script changes nothing"
    elif [ -z "$problems" ]; then
        report "$1 finds: $2" "it does not"
    else
        report "$1 finds: $2" ""
    fi
}


self_test() {
    header=$out/sample.h
    sources= texts= tests=$header
    sample >$out/good.h
    sample >$header
    for name in $checks; do
        report "$name accepts the sample" "$(check_$name 2>&1)"
    done
    breaks contents 's/- \[SECTION\] Two/- [SECTION] Too/'
    breaks contents '/- \[SECTION\] Two/d'
    breaks contents '/==== \[SECTION\] Two/d'
    breaks contents 's/^\(.* ==== .SECTION. \)Two/\1One/'
    breaks conditionals 's/.*mark.*/#if 1\n#endif/'
    breaks conditionals 's/.*mark.*/# ifdef A\n#endif/'
    breaks conditionals 's/.*mark.*/    {/'
    breaks function_length "s/.*mark.*/$(awk 'BEGIN { for (i = 0; i < 95; i++) printf "\\n" }')/"
    breaks comments '/Two calls/d'
    breaks comments 's/^\(EVLOOP_API int evl_second.*;\)/\n\1/'
    breaks comments '/API ends/d'
    breaks exports 's/static int evli_helper/int evli_helper/'
    breaks exports 's/evli_helper/helper/'
    breaks exports 's/evl_second/second/'
    breaks exports 's/return thing/return nothing/'
    breaks static 's/^#define EVLOOP_API __.*/#define EVLOOP_API/'
    breaks static 's/evli_helper/helper/'
    breaks macros 's/EVLI_TWICE/TWICE/'
    breaks macros 's/.*mark.*/#define uv_run evl_run/'
    breaks types 's/evl_thing_t/thing_t/'
    breaks types 's/^} evl_thing_t/} thing_t/'
    breaks types 's/.*API ends.*/&\ntypedef int evx_int;/'
    breaks types 's/.*API ends.*/&\ntypedef void (*callback)(void);/'
    breaks format 's/    return thing/  return thing/'
    breaks words 's/mark/TO''DO/'
    breaks words 's/mark/XX''X/'
    breaks registration 's/.*mark.*/    TEST(never_runs)/'
    breaks ascii_whitespace 's/.*mark.*/& /'
    breaks ascii_whitespace 's/    return/\treturn/'
    finish
}

if [ "${1:-}" = --self-test ]; then
    self_test
else
    lint
fi
