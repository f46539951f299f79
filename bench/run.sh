#!/bin/sh
# Runs the benchmarks: the libraries take turns, round after round, and the table shows medians.
#
#     sh bench/run.sh            (or `make bench`)
#     sh bench/run.sh --table    prints the last run's results again
#
# From the environment: ONLY=timers,echo (all), SKIP=compile (none), CASE=text (all cases), ROUNDS=n (7),
# SCALE=f (1), FORMAT=table|markdown|csv, LIBRARIES="evloop libuv" (all found), LIBUV_DIR=path of another
# libuv: its source tree with libuv.a in it, in .libs or in build; CC (cc), CFLAGS (-O2 -g) of the programs.
#
# A question is a file of its own: NAME.c, with a line "Libraries:", is built for each library and run for
# each round; NAME.sh, which begins with #!, runs once, with LIBRARIES_FOUND, LIBUV_DIR, CC, ROUNDS and
# SCALE in the environment, and prints lines "question library round case unit value", separated by tabs.
# If it has a line "# Programs: NAME", those of NAME.c are built before.

set -u
cd "$(dirname "$0")/.." || exit 2

CC=${CC:-cc}
CFLAGS=${CFLAGS:--O2 -g}
ROUNDS=${ROUNDS:-7}
SCALE=${SCALE:-1}
FORMAT=${FORMAT:-table}
CASE=${CASE:-}
LIBUV_DIR=${LIBUV_DIR:-}
LIBRARIES=${LIBRARIES:-evloop libuv libev libevent bare}
out=build/bench
results=$out/results.tsv
limit=300 # seconds for a program, which takes one or two
failures=0
mkdir -p $out

say() {
    [ -t 2 ] && printf '\r\033[K' >&2
    echo "bench: $*" >&2
}

die() {
    say "$*"
    exit 1
}

# ---- Libraries ----

# The first libuv.a of a build of libuv's.
libuv_archive() {
    for archive in "$LIBUV_DIR"/libuv.a "$LIBUV_DIR"/.libs/libuv.a "$LIBUV_DIR"/build/libuv.a \
        "$LIBUV_DIR"/out/libuv.a; do
        [ -f "$archive" ] && echo "$archive" && return
    done
    return 1
}

# What pkg-config knows; without it, or without its file, the compiler may find the library all the same.
package_flags() { # --cflags|--libs OTHERWISE PACKAGE...
    option=$1 otherwise=$2
    shift 2
    pkg-config "$option" "$@" 2>/dev/null || echo "$otherwise"
}

# Compiler flags of a library, before and after the source.
flags_of() { # LIBRARY cflags|libs
    case $1-$2-${LIBUV_DIR:+dir} in
    evloop-cflags-*) echo "-DBENCH_EVLOOP" ;;
    bare-cflags-*) echo "-DBENCH_BARE" ;;
    evloop-libs-* | bare-libs-*) echo "-pthread" ;;
    libuv-cflags-dir) echo "-DBENCH_LIBUV -I$LIBUV_DIR/include" ;;
    libuv-libs-dir) echo "$(libuv_archive) -pthread -ldl -lrt" ;;
    libuv-cflags-) echo "-DBENCH_LIBUV $(package_flags --cflags '' libuv)" ;;
    libuv-libs-) echo "$(package_flags --libs -luv libuv) -pthread" ;;
    libev-cflags-*) echo "-DBENCH_LIBEV -fno-strict-aliasing" ;;
    libev-libs-*) echo "-lev -lm -pthread" ;; # pkg-config does not know it
    libevent-cflags-*) echo "-DBENCH_LIBEVENT $(package_flags --cflags '' libevent_core libevent_pthreads)" ;;
    libevent-libs-*)
        echo "$(package_flags --libs '-levent_core -levent_pthreads' libevent_core libevent_pthreads) -pthread"
        ;;
    esac
}

# Whether a program with the library builds.
works() { # LIBRARY HEADER
    if [ "$1" = libuv ] && [ -n "$LIBUV_DIR" ]; then
        libuv_archive >/dev/null && [ -f "$LIBUV_DIR/include/uv.h" ] || return
    fi
    printf '#include <%s>\nint main(void) { return 0; }\n' "$2" >$out/probe.c
    $CC $(flags_of $1 cflags) -o $out/probe $out/probe.c $(flags_of $1 libs) >$out/probe.log 2>&1
}

need() { # LIBRARY HEADER PACKAGE
    works $1 $2 && return
    if [ $1 = libuv ] && [ -n "$LIBUV_DIR" ]; then
        say "libuv is left out: LIBUV_DIR=$LIBUV_DIR has no include/uv.h, or no libuv.a that was built"
    elif command -v pkg-config >/dev/null; then
        say "$1 is missing, so it is left out; install it, for example: apt-get install $3"
    else
        say "$1 is missing, so it is left out; install it, for example: apt-get install $3 pkg-config"
    fi
    return 1
}

is_there() { # LIBRARY
    case $1 in
    evloop | bare) ;;
    libuv) need libuv uv.h libuv1-dev ;;
    libev) need libev ev.h libev-dev ;;
    libevent) need libevent event2/event.h libevent-dev ;;
    *) die "there is no library '$1': evloop libuv libev libevent bare" ;;
    esac
}

find_libraries() {
    available=
    for library in $LIBRARIES; do
        is_there $library && available="$available $library"
    done
    available=${available# }
    [ -n "$available" ] || die "there is no library to measure"
}

# ---- Questions ----

programs() {
    for file in bench/*.c; do
        grep -q 'Libraries: ' $file && basename $file .c
    done
}

scripts() {
    for file in bench/*.sh; do
        case $file in */run.sh | */check.sh | */chart.sh) continue ;; esac
        head -n 1 $file | grep -q '^#!' && basename $file .sh
    done
}

# Those of the names on the input that ONLY asks for and SKIP does not leave out.
wanted() {
    while read -r name; do
        case ,${SKIP:-}, in *,"$name",*) continue ;; esac
        case ,${ONLY:-$name}, in *,"$name",*) echo $name ;; esac
    done
}

check_names() {
    for name in $(echo "${ONLY:-} ${SKIP:-}" | tr ',' ' '); do
        { programs; scripts; } | grep -qx "$name" ||
            die "there is no question '$name': $({ programs; scripts; } | paste -s -d ' ' -)"
    done
}

# ---- Building ----

# Builds a program, unless the command and all files that it is made of are those of the last time.
compile() { # PROGRAM COMMAND FILE...
    program=$1 command=$2
    shift 2
    [ -x $program ] && [ "$(cat $program.command 2>/dev/null)" = "$command" ] &&
        [ -z "$(find "$@" bench/*.h -newer $program)" ] && return
    [ -t 2 ] && printf '\rbuilding %s\033[K' ${program##*/} >&2
    rm -f $program.command
    $command && echo "$command" >$program.command
}

build() { # QUESTION LIBRARY
    flags="-std=gnu99 $CFLAGS -Wall -Wextra $(flags_of $2 cflags)"
    archive=
    [ $2 = libuv ] && [ -n "$LIBUV_DIR" ] && archive=$(libuv_archive)
    compile $out/$1-$2 "$CC $flags -o $out/$1-$2 bench/$1.c $(flags_of $2 libs)" bench/$1.c evloop.h $archive ||
        die "$1 does not build for $2"
}

libraries_of() { # QUESTION
    for library in $(sed -n 's/^.*Libraries: //p' bench/$1.c | head -n 1); do
        case " $available " in *" $library "*) echo $library ;; esac
    done
}

# The network benchmarks' other side.
build_load() {
    compile $out/load "$CC -std=gnu99 $CFLAGS -Wall -Wextra -o $out/load bench/load.c -pthread" bench/load.c ||
        die "bench/load.c does not build"
}

# The iteration is there for the versions that it prints.
build_all() {
    needed=$(for script in $(scripts | wanted); do
        sed -n 's/^# Programs: //p' bench/$script.sh
    done)
    for question in iteration $needed $(programs | wanted); do
        for library in $(libraries_of $question); do
            build $question $library
        done
    done
    build_load
}

# ---- Running ----

# A program that hangs must not keep the others from their turns.
limited() { # COMMAND...
    if command -v timeout >/dev/null; then
        timeout $limit "$@"
    else
        "$@"
    fi
}

failed() { # QUESTION LIBRARY
    failures=$((failures + 1))
    say "$1 of $2 failed: left out from here on"
    running=$(for name in $running; do
        [ $name = $2 ] || echo $name
    done)
}

run_program() { # QUESTION
    running=$(libraries_of $1)
    round=0 # the first one warms up
    while [ $round -le "$ROUNDS" ]; do
        for library in $running; do
            [ -t 2 ] && printf '\r%s: round %s of %s, %s\033[K' "$1" $round "$ROUNDS" $library >&2
            if ! limited $out/$1-$library --scale "$SCALE" ${CASE:+--case "$CASE"} >$out/round.tsv; then
                failed $1 $library
            elif [ $round -gt 0 ]; then
                sed "s/^/$1	$library	$round	/" $out/round.tsv >>$results
            fi
        done
        round=$((round + 1))
    done
}

run_script() { # QUESTION
    [ -t 2 ] && printf '\r%s\033[K' "$1" >&2
    if CC=$CC LIBUV_DIR=$LIBUV_DIR LIBRARIES_FOUND=$available ROUNDS=$ROUNDS SCALE=$SCALE CASE=$CASE \
        sh bench/$1.sh >$out/script.tsv; then
        # Scripts need not know --case.
        awk -F '\t' -v part="$CASE" 'part == "" || index($4, part)' $out/script.tsv >>$results
    else
        failures=$((failures + 1))
        say "$1 failed: left out"
    fi
}

# ---- Printing ----

processor() {
    name=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)
    [ -n "$name" ] || name=$(sysctl -n machdep.cpu.brand_string 2>/dev/null || sysctl -n hw.model 2>/dev/null)
    echo "${name:-an unknown processor}, $(getconf _NPROCESSORS_ONLN) cores"
}

load_average() {
    uptime | sed 's/.*load average[s]*: *//'
}

# Whether more than half of a processor was in use in the last minute, before it began.
is_busy() { # LOAD
    awk -v load="${1%%,*}" 'BEGIN { exit load <= 0.5 }'
}

# How the library was built, as far as CMake has written it down beside the archive.
build_type() { # LIBRARY
    [ $1 = libuv ] && [ -n "$LIBUV_DIR" ] || return 0
    cache=$(dirname "$(libuv_archive)")/CMakeCache.txt
    type=$(sed -n 's/^CMAKE_BUILD_TYPE:[A-Z]*=//p' "$cache" 2>/dev/null)
    if [ "$type" = Debug ]; then
        echo " (built as Debug: not optimised, so no peer)"
    elif [ -n "$type" ]; then
        echo " (built as $type)"
    elif [ -f "$cache" ]; then
        echo " (built without a build type)"
    fi
}

# How it was measured: lines "name: text".
describe() { # LOAD-BEFORE
    echo "system: $(uname -srm); $(processor)"
    echo "compiler: $($CC --version | head -n 1), $CFLAGS"
    echo "libraries: $(for library in $available; do
        [ $library = bare ] || echo "$($out/iteration-$library --version)$(build_type $library)"
    done | paste -s -d ';' - | sed 's/;/, /g')"
    echo "rounds: $ROUNDS after one to warm up, the libraries in turns, at scale $SCALE"
    echo "load average: $1 before, $(load_average) after$(is_busy "$1" && echo ': busy, so look at the ratios')"
    echo "to libuv: how many times better in the same round; the median of the rounds, and the least and the most"
}

print_table() {
    case $FORMAT in
    table) cat $out/description.txt ;;
    markdown) sed 's/^/- /' $out/description.txt ;;
    esac
    awk -v format="$FORMAT" -f bench/table.awk $results
}

# ---- The run ----

case $FORMAT in
table | markdown | csv) ;;
*) die "FORMAT is one of table, markdown and csv" ;;
esac

if [ "${1:-}" = --table ]; then
    [ -s $results ] && [ -f $out/description.txt ] || die "there are no results yet"
    print_table
    exit
fi

before=$(load_average)
check_names
find_libraries
build_all
rm -f $out/description.txt
: >$results
for question in $(programs | wanted); do
    run_program $question
done
for question in $(scripts | wanted); do
    run_script $question
done
[ -t 2 ] && printf '\r\033[K' >&2
describe "$before" >$out/description.txt
print_table || failures=$((failures + 1))
[ $failures -eq 0 ] || die "$failures of the benchmarks failed"
