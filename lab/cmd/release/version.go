package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// version says which sources are built. It is a semantic version, which each format writes in its own way.
type version struct {
	number  string    // of the packages: 1.2.3, or 1.2.4-git20260102150405
	program string    // what the program says it is: the number, and which commit when that has no tag
	date    time.Time // of all files, UTC
}

var (
	numbers  = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(alpha|beta|rc|git)\d+)?$`)
	finished = regexp.MustCompile(`^v(\d+\.\d+)\.(\d+)$`)
)

// versionOf is the version of the sources in a folder: the one given, else the one of its tags. With tagged a commit without a
// tag, and a change that is not committed, is an error.
func versionOf(ctx context.Context, sources, given string, tagged bool) (version, error) {
	git := func(args ...string) (string, error) {
		out, err := output(ctx, sources, nil, "git", args...)
		return strings.TrimSpace(out), err
	}
	var v version
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		var err error
		if epoch, err = git("log", "-1", "--format=%ct"); err != nil {
			return v, err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return v, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	v.date = time.Unix(seconds, 0).UTC()
	if given != "" {
		v.number = strings.TrimPrefix(given, "v")
		v.program = v.number
		if !numbers.MatchString(v.number) {
			return v, fmt.Errorf("%q is not a version such as 1.2.3 or 1.2.3-rc1", given)
		}
		return v, nil
	}
	changed, err := git("status", "--porcelain")
	if err != nil {
		return v, err
	}
	if tagged {
		if changed != "" {
			return v, errors.New("there are changes that are not committed: commit or stash them first")
		}
		tag, err := git("describe", "--exact-match", "--tags", "--match", "v[0-9]*", "HEAD")
		if err != nil || !numbers.MatchString(strings.TrimPrefix(tag, "v")) {
			return v, errors.New("this commit has no tag such as v1.2.3: git tag -a v1.2.3 makes it, make packages needs none")
		}
		v.number = strings.TrimPrefix(tag, "v")
		v.program = v.number
		return v, nil
	}
	commit, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return v, err
	}
	last, err := git("describe", "--tags", "--match", "v[0-9]*", "--exclude", "*-*", "--abbrev=0", "HEAD")
	if err != nil {
		last = "v0.0.0" // no tag yet
	}
	if v.number, err = next(last); err != nil {
		return v, err
	}
	v.number += "-git" + v.date.Format("20060102150405")
	v.program = v.number + "+" + commit
	if changed != "" {
		v.program += ".changes"
	}
	return v, nil
}

// next is the first version after a tag: what is built after v1.2.3 is on its way to 1.2.4.
func next(tag string) (string, error) {
	m := finished.FindStringSubmatch(tag)
	if m == nil {
		return "", fmt.Errorf("the tag %q is not a version such as v1.2.3", tag)
	}
	patch, err := strconv.Atoi(m[2])
	return fmt.Sprintf("%s.%d", m[1], patch+1), err
}
