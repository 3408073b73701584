# Makes LLVM's table of function attributes for one crate (-forceattrs-csv-path). Reads two files: `hot`, and the
# functions of the crate, each as a mangled name, a tab and a readable name.
FNR == NR {
    if ($0 == "" || $0 ~ /^#/) next
    kinds[++count] = $0 ~ /^[~!+] / ? substr($0, 1, 1) : "="
    patterns[count] = kinds[count] == "=" ? $0 : substr($0, 3)
    next
}
# Whether the name of a function contains all parts of a pattern. The name is compared without its type parameters, so
# that a pattern does not match a type that is only a parameter. With `::<`, `&` or ` as ` in the pattern, the whole
# name is compared.
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
