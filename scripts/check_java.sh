#!/usr/bin/env bash
# Spark 4 needs Java 17 or newer. Says so in one line before anything else starts.
set -u
needed=17
remedy="install Java $needed or newer, e.g. 'apt-get install openjdk-17-jre-headless' or 'brew install openjdk@17', and set JAVA_HOME if you have several"
java=java
[ -n "${JAVA_HOME:-}" ] && java="$JAVA_HOME/bin/java"
if ! found=$("$java" -version 2>&1); then
    echo "error: no Java was found (tried '$java'), Java $needed or newer is needed: $remedy" >&2
    exit 2
fi
# "17.0.15", "21" or, before Java 9, "1.8.0_412"
version=$(sed -n 's/.*version "\([^"]*\)".*/\1/p' <<<"$found" | head -n 1)
major=${version#1.}
major=${major%%[!0-9]*}
if [ "${major:-0}" -lt "$needed" ]; then
    echo "error: Java ${version:-of an unknown version} was found, Java $needed or newer is needed: $remedy" >&2
    exit 2
fi
