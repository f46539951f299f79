# What tests/variants.sh and tests/cross.sh share: each builds and runs all tests in several ways and
# adds up what these count. They set `out`, a directory, and `selection`, the variants that are wanted.

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
    make --no-print-directory test VARIANT=$name JOBS="${JOBS:-2}" \
        ${BACKENDS:+BACKENDS=$BACKENDS} "$@" >$out/$name.log 2>&1
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

skip_variant() { # NAME REASON
    skipped=$((skipped + 1))
    echo "ok - $1 # SKIP $2"
}

wanted() { # NAME
    case " $selection " in
    '  ' | *" $1 "*) return 0 ;;
    esac
    return 1
}

# Whether what this compiler makes runs here, under an emulator or not.
works() { # COMPILER [EMULATOR]
    echo '#include <pthread.h>
int main(void) { return 0; }' >$out/probe.c
    $1 -o $out/probe $out/probe.c -pthread >$out/probe.log 2>&1 && ${2:-} $out/probe
}

closing_line() {
    if [ $skipped -gt 0 ]; then
        echo "$passed passed, $failed failed, $skipped skipped"
    else
        echo "$passed passed, $failed failed"
    fi
    [ $failed -eq 0 ] && [ $passed -gt 0 ]
}
