# Types and tags at file level are named evl_ or evli_, those of the libuv names uv_.

# Windows lacks ssize_t; a macro in the place of a name is an attribute.
function check(name) {
    if (name !~ /^(evl|evli|uv)_|^EVLI_[A-Z_]+$/ && name != "ssize_t")
        print FILENAME ":" FNR ": the type " name " lacks the prefix"
}

/^(typedef )?(struct|union|enum) [A-Za-z_]/ {
    name = $0
    sub(/^(typedef )?(struct|union|enum) (EVLI_[A-Z_]+ )?/, "", name)
    sub(/[^A-Za-z0-9_].*/, "", name)
    if (name !~ /^(addrinfo|sockaddr|iovec|msghdr|timespec|epoll_event|pollfd)/)
        check(name)
}

/^} [A-Za-z_0-9]+;/ {
    name = $2
    sub(/;.*/, "", name)
    check(name)
}

/^typedef [^({]*;$/ {
    name = $NF
    gsub(/[*;]|\[.*\]/, "", name)
    check(name)
}

/^typedef .*\(\*[A-Za-z_0-9]+\)/ {
    name = $0
    sub(/^[^(]*\(\*/, "", name)
    sub(/\).*/, "", name)
    check(name)
}
