#!/bin/sh
# tools/setup.sh on a machine whose apt-get is broken in one way or another: with stand-ins for it and for pkg-config, which misses
# one package until that is installed.
#
#   sh tests/test_setup.sh
set -eu
cd "$(dirname "$0")/.."
sh tools/onednn.sh --check >/dev/null || { echo "skipped: there is no oneDNN, and building one takes too long for a test"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "FAILED: $*"; cat "$work/err"; failed=1; }

stand_in() { cat >"$work/$1"; chmod +x "$work/$1"; }
stand_in sudo <<'END'
#!/bin/sh
exec "$@"
END
stand_in pkg-config <<'END'
#!/bin/sh
case $* in *libcjson*) [ -e "$STATE/installed" ] ;; esac
END
stand_in apt-get <<'END'
#!/bin/sh
for word; do
    case $word in
        update) echo "E: the source is broken"; exit "$UPDATE" ;;
        libcjson-dev) [ "$INSTALL" -ne 0 ] || touch "$STATE/installed" ;;
    esac
done
[ "$INSTALL" -eq 0 ] || echo "E: no such package"
exit "$INSTALL"
END

# setup UPDATE INSTALL: with the exit codes that apt-get has; the one that setup.sh has is $code.
setup() {
    rm -f "$work/installed"
    code=0
    STATE=$work UPDATE=$1 INSTALL=$2 PATH=$work:$PATH sh tools/setup.sh >"$work/out" 2>"$work/err" </dev/null || code=$?
}
says() { grep -q "$1" "$work/err"; }

setup 0 0
{ [ "$code" -eq 0 ] && ! says warning; } || fail "apt-get works: exit $code"
setup 100 0
{ [ "$code" -eq 0 ] && says '^setup: warning: apt-get update failed' && says 'source is broken'; } ||
    fail "a broken source is not the end: exit $code"
setup 100 100
{ [ "$code" -eq 1 ] && says 'still missing.*libcjson-dev' && says 'no such package'; } ||
    fail "what cannot be installed is named: exit $code"
[ "$failed" -eq 0 ] || exit 1
echo "setup.sh goes on where it can"
