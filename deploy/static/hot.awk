# Of `hot` and a crate's functions (mangled, tab, readable), the table of their attributes.
FNR == NR {
    if ($0 == "" || $0 ~ /^#/) next
    kinds[++count] = $0 ~ /^[~!+] / ? substr($0, 1, 1) : "="
    patterns[count] = kinds[count] == "=" ? $0 : substr($0, 3)
    next
}
# Whether all parts of a pattern are in what a function is called: without its type parameters, as a pattern names a
# function or its type and not some argument, or with them, if there is `::<`, `&` or ` as ` in the pattern.
function matches(pattern, part, parts, at, where) {
    where = pattern ~ /::<|&| as / ? $2 : name
    parts = split(pattern, part, / \.\. /)
    for (at = 1; at <= parts; at++) if (!index(where, part[at])) return 0
    return 1
}
{
    name = $2
    sub(/::<.*/, "", name)
    kind = "!"
    if ($2 !~ /drop_in_place|fmt::(Debug|Display)/)
        for (at = 1; at <= count; at++)
            if (matches(patterns[at])) {
                kind = kinds[at]
                break
            }
    if (kind == "!") print $1 ",minsize"
    if (kind == "!" || kind == "~") print $1 ",optsize"
    if (kind == "+") print $1 ",noinline"
    if (kind != "!") print $1 ",nooutline=1"
}
