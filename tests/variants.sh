#!/bin/sh
# Runs all tests as built by each compiler at hand, and with each part of the library left out.
#
#     sh tests/variants.sh [VARIANT...]         such as clang or no-net; default: all
#     JOBS=n sh tests/variants.sh               how many tests at a time, default 2

set -u
cd "$(dirname "$0")/.." || exit 2

out=build/variants
parts='NET FS DNS PROCESS SIGNAL FS_EVENT TTY THREADS OS DIAG'
mkdir -p $out
passed=0 failed=0 skipped=0

add_counts() { # "3 passed, 0 failed, 1 skipped"
    set -- $(echo "$1" | tr -cd '0-9 ')
    passed=$((passed + ${1:-0}))
    failed=$((failed + ${2:-0}))
    skipped=$((skipped + ${3:-0}))
}

# Builds and runs the tests; the counts of the closing line go into the sum.
variant() { # NAME MAKE-ARGUMENTS...
    name=$1
    shift
    wanted $name || return
    make --no-print-directory test VARIANT=$name JOBS="${JOBS:-2}" "$@" >$out/$name.log 2>&1
    status=$?
    counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed' $out/$name.log | tail -n 1)
    add_counts "$counts"
    if [ $status -eq 0 ]; then
        echo "ok - $name: $counts"
        return
    fi
    case $counts in
    *' passed, '[1-9]*) ;;
    *) failed=$((failed + 1)) ;; # it did not get as far as a failing test
    esac
    echo "not ok - $name: ${counts:-did not run}"
    # From the plan on; all of it when it has not come that far.
    if grep -q '^1\.\.' $out/$name.log; then
        sed -n '/^1\.\./,$p' $out/$name.log
    else
        cat $out/$name.log
    fi | grep -v '^ok ' | sed -e 's/^/# /' -e 200q
}

wanted() {
    case " $selection " in
    '  ' | *" $1 "*) return 0 ;;
    esac
    return 1
}

# As variant, when the compiler works here.
compiler_variant() { # NAME COMPILER MAKE-ARGUMENTS...
    name=$1
    shift
    wanted $name || return
    echo '#include <pthread.h>
int main(void) { return 0; }' >$out/probe.c
    if $1 -o $out/probe $out/probe.c >$out/probe.log 2>&1 && $out/probe; then
        variant $name CC="$@"
    else
        skipped=$((skipped + 1))
        echo "ok - $name # SKIP the compiler is not installed"
    fi
}

code() { # FLAGS...
    cc -std=c99 -E -P -DEVLOOP_IMPLEMENTATION "$@" -x c evloop.h
}

# A part that this version does not have leaves the code as it is; the tests need not run again.
part_variant() { # PART
    name=no-$(echo $1 | tr 'A-Z_' 'a-z-')
    wanted $name || return
    code -DEVLOOP_NO_$1 >$out/part.i
    if cmp -s $out/all.i $out/part.i; then
        echo "ok - $name: the same code as with it"
    else
        variant $name CFLAGS="-O1 -g -DEVLOOP_NO_$1"
    fi
}

selection="$*"
code >$out/all.i
compiler_variant gcc gcc CFLAGS='-O2 -g'
compiler_variant clang clang CFLAGS='-O1 -g'
compiler_variant g++ g++ LANGUAGE='-x c++ -std=c++11' CFLAGS='-O1 -g'
compiler_variant tcc tcc WARNINGS='-Wall -Werror' CFLAGS=-g
compiler_variant musl musl-gcc CFLAGS='-O1 -g'
compiler_variant m32 'gcc -m32' CFLAGS='-O1 -g'
for part in $parts; do
    part_variant $part
done
variant no-parts CFLAGS="-O1 -g $(for part in $parts; do printf ' -DEVLOOP_NO_%s' $part; done)"

if [ $skipped -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ $failed -eq 0 ] && [ $passed -gt 0 ]
