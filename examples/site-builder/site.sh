# What generate and edit share. Needs nothing but POSIX tools. A site is made whole beside the old one
# and then put in its place, so that a build which is stopped half-way leaves the old one as it was.
# shellcheck shell=sh

set -eu
# Text is bytes here: any prompt passes through as it is.
LC_ALL=C
export LC_ALL

: "${BUILDLOCK_WORKSPACE:?is set by buildlock, which runs this for a build}"
here=$PWD
versions=$BUILDLOCK_WORKSPACE/versions
draft=$BUILDLOCK_WORKSPACE/draft

# A step takes a while, as it would with a builder that thinks.
step() {
  printf '%s\n' "$*"
  sleep "${SITE_BUILDER_PACE:-2}"
}

# The text of the request's prompt, from the request on standard input.
prompt() {
  awk -v key=prompt -f "$here/json.awk" || { echo "The request has no prompt." >&2; exit 1; }
}

# Text as HTML: nothing in it is markup.
html() {
  sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g' -e "s/'/\\&#39;/g"
}

# The first line that has anything in it, cut at a word near 60 bytes, else between two characters.
headline() {
  awk '
    BEGIN { for (i = 128; i < 192; i++) inner = inner sprintf("%c", i) }
    NF {
      sub(/^[ \t]+/, ""); sub(/[ \t]+$/, "")
      if (length($0) <= 60) { print; exit }
      for (end = 60; end > 30 && substr($0, end + 1, 1) != " "; end--);
      if (end == 30) for (end = 60; index(inner, substr($0, end + 1, 1)); end--);
      print substr($0, 1, end) "…"
      exit
    }'
}

# Text as paragraphs, one for each line.
paragraphs() {
  html | awk 'NF { print "      <p dir=\"auto\">" $0 "</p>" }'
}

# The number of the newest version; 0 if there is none.
newest() (
  number=0
  for folder in "$versions"/[0-9]*; do
    [ -d "$folder" ] || continue
    [ "${folder##*/}" -le "$number" ] || number=${folder##*/}
  done
  echo "$number"
)

# One page from the draft's title, prompt, changes, hue, theme and size.
page() ( # WHERE_THE_VERSIONS_ARE
  title=$(html <"$draft/title")
  cat <<HTML
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>$title</title>
    <link rel="stylesheet" href="style.css">
  </head>
  <body>
    <header>
      <svg viewBox="0 0 120 120" aria-hidden="true"><circle cx="45" cy="50" r="36"/><circle cx="80" cy="66" r="28"/></svg>
      <h1 dir="auto">$title</h1>
    </header>
    <main>
      <ul>
        <li><b>Come by</b><span>The door is open, and so are we.</span></li>
        <li><b>Look around</b><span>All that we make, made with care.</span></li>
        <li><b>Say hello</b><span>A line is enough. We answer each one.</span></li>
      </ul>
      <section>
      <h2>What was asked for</h2>
$(paragraphs <"$draft/prompt")
      </section>
HTML
  if [ -s "$draft/changes" ]; then
    printf '      <section>\n      <h2>And then</h2>\n%s\n      </section>\n' "$(paragraphs <"$draft/changes")"
  fi
  printf '    </main>\n    <footer>\n      <p>Version %s of <bdi>%s</bdi>.' "$(cat "$draft/number")" \
    "$(printf '%s' "${BUILDLOCK_PROJECT:-}" | html)"
  number=$(cat "$draft/number")
  while [ "$number" -gt 1 ]; do
    number=$((number - 1))
    printf ' <a href="%s%s/index.html">Version %s</a>' "$1" "$number" "$number"
  done
  printf '</p>\n    </footer>\n  </body>\n</html>\n'
)

style() {
  printf ':root { --hue: %s; --size: %s; color-scheme: %s; }\n' \
    "$(cat "$draft/hue")" "$(cat "$draft/size")" "$(cat "$draft/theme")"
  cat "$here/style.css"
}

# Makes the draft the newest version, and the site that is shown.
publish() {
  number=$(($(newest) + 1))
  echo "$number" >"$draft/number"
  style >"$draft/style.css"
  page ../ >"$draft/index.html"
  mkdir -p "$versions"
  mv "$draft" "$versions/$number"

  draft=$versions/$number
  next=$BUILDLOCK_WORKSPACE/site.next
  rm -rf "$next"
  mkdir "$next" "$next/versions"
  page versions/ >"$next/index.html"
  cp "$draft/style.css" "$next/"
  for folder in "$versions"/[0-9]*; do
    mkdir "$next/versions/${folder##*/}"
    cp "$folder/index.html" "$folder/style.css" "$next/versions/${folder##*/}/"
  done
  rm -rf "$BUILDLOCK_WORKSPACE/site.old"
  [ ! -d "$BUILDLOCK_WORKSPACE/site" ] || mv "$BUILDLOCK_WORKSPACE/site" "$BUILDLOCK_WORKSPACE/site.old"
  mv "$next" "$BUILDLOCK_WORKSPACE/site"
  rm -rf "$BUILDLOCK_WORKSPACE/site.old"
  echo "Version $number is there."
}
