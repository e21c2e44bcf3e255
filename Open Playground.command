#!/bin/bash
# Double-click on a Mac: sets up what is missing and opens the playground in the browser.
cd "$(dirname "$0")" || exit 1
if ! make --version >/dev/null 2>&1; then
    echo "macOS's command line tools are missing: install them with 'xcode-select --install', then open this again."
    exit 1
fi
exec make
