# Prints X(area, name) for each TEST(name) in tests/test_<area>.c, within the file's own preprocessor conditions.

FNR == 1 {
    area = FILENAME
    sub(/.*\/test_/, "", area)
    sub(/\.c$/, "", area)
    print "/* " FILENAME " */"
}

/^#[ \t]*(if|ifdef|ifndef|elif|else|endif)/ {
    print
}

/^TEST\(/ {
    name = $0
    sub(/^TEST\([ \t]*/, "", name)
    sub(/[ \t]*\).*/, "", name)
    print "X(" area ", " name ")"
}
