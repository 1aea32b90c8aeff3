#!/bin/sh
# Opens the pages of tests/data in a browser: nothing may reach the console (errors, or anything that the page's own policy keeps
# from loading), headings must sort, and the page must fit a narrow window. Skipped where there is no Chromium.
#
#   sh tests/test_report_page.sh TEST_REPORT
set -eu
make_pages=$1
browser=
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then browser=$name && break; fi
done
if [ -z "$browser" ]; then
    echo "SKIPPED: there is no Chromium to open reports with"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$make_pages" "$work"
status=0

# show FILE WIDTH: the page after its scripts ran on stdout, what came to its console in $work/console.
show() {
    timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$work/profile" \
        --enable-logging=stderr --window-size="$2,1000" --virtual-time-budget=5000 --dump-dom "file://$1" 2>"$work/log" || return 1
    grep 'CONSOLE' "$work/log" >"$work/console" || true
}

# If the browser cannot start here (no user namespaces, no memory), the test is skipped.
echo '<!DOCTYPE html><title>t</title><p>it works</p><script>console.error("seen")</script>' >"$work/probe.html"
if ! show "$work/probe.html" 800 >"$work/dom" || ! grep -q 'it works' "$work/dom"; then
    echo "SKIPPED: $browser does not run here"
    exit 77
fi
grep -q seen "$work/console" || { echo "the test would not see an error on the console"; exit 1; }

cat >"$work/probe.js" <<'EOF'
<script>
const said = [];
for (const table of document.querySelectorAll('table.sorts')) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
        const number = head.classList.contains('n');
        const keys = () => [...table.tBodies[0].rows].map(row => number ? row.cells[at].dataset.v : row.cells[at].textContent)
            .filter(key => key !== undefined).map(key => number ? +key : key);
        const order = new Intl.Collator(undefined, {numeric: true}), before = keys().length;
        const sorted = (list, sign) => list.every((key, i) => i === 0 || sign * (number ? list[i - 1] - key : order.compare(list[i - 1], key)) <= 0);
        for (let turn = 0; turn < 2; turn++) {
            head.querySelector('button').click();
            const sign = head.getAttribute('aria-sort') === 'ascending' ? 1 : -1;
            if (!sorted(keys(), sign) || keys().length !== before) said.push('not sorted: ' + head.textContent);
        }
        if (head.getAttribute('aria-sort') !== (number ? 'ascending' : 'descending')) said.push('direction: ' + head.textContent);
    });
    said.push('table of ' + heads.length);
}
if (document.documentElement.scrollWidth > window.innerWidth) said.push('wider than the window');
if (document.title.includes('broken')) said.push('a script of others ran');
for (const text of document.querySelectorAll('.plot > svg text')) {
    const box = text.getBBox(), room = text.ownerSVGElement.viewBox.baseVal;
    if (box.x < -1 || box.x + box.width > room.width + 1 || box.y + box.height > room.height + 1) said.push('cut off: ' + text.textContent);
}
document.body.append('PROBE ' + said.join('; ') + ' END');
</script>
EOF

for name in accept ab; do
    # as it is, then with the probe; 500 is the narrowest window that Chromium opens
    for width in 1400 500; do
        show "$work/$name.html" "$width" >"$work/dom" || { echo "$name: the browser failed"; status=1; }
        if [ -s "$work/console" ]; then echo "$name at $width has something on its console:"; cat "$work/console"; status=1; fi
        sed '/<\/body>/d; /<\/html>/d' "$work/$name.html" >"$work/probed.html"
        cat "$work/probe.js" >>"$work/probed.html"
        show "$work/probed.html" "$width" >"$work/dom" || { echo "$name: the browser failed"; status=1; }
        said=$(grep -o 'PROBE [^<]* END' "$work/dom" | tail -1)
        echo "$name at $width: $said"
        case $said in
            *'not sorted'* | *direction* | *wider* | *'others ran'* | *'cut off'*) status=1 ;;
            *'table of'*) ;;
            *) echo "$name: the probe did not run"; status=1 ;;
        esac
    done
done
exit $status
