package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The version is that of the tag; what is built after a tag, or with changes, says so and cannot be released.
func TestVersionOfTheTag(t *testing.T) {
	repository := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(command(t, []string{"GIT_CONFIG_GLOBAL=/dev/null"}, "git", append([]string{"-C", repository,
			"-c", "user.name=ana", "-c", "user.email=ana@home.example", "-c", "tag.gpgsign=false"}, args...)...))
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1800000000")
	const date = "-git20270115080000"
	check := func(want string, releasable bool) {
		t.Helper()
		v, err := versionOf(t.Context(), repository, "", false)
		if err != nil || v.number != want+date || !strings.HasPrefix(v.program, want+date+"+"+git("rev-parse", "--short=12", "HEAD")) {
			t.Errorf("a snapshot is %+v, %v; want %s", v, err, want+date)
		}
		if v.date.Unix() != 1800000000 {
			t.Errorf("its date is %v", v.date)
		}
		if v, err := versionOf(t.Context(), repository, "", true); (err == nil) != releasable {
			t.Errorf("as a release: %+v, %v", v, err)
		}
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "one")
	check("0.0.1", false)
	git("tag", "-a", "-m", "one", "v1.2.3")
	check("1.2.4", true)
	if v, err := versionOf(t.Context(), repository, "", true); err != nil || v.number != "1.2.3" || v.program != "1.2.3" {
		t.Errorf("the release is %+v, %v", v, err)
	}
	git("commit", "-q", "--allow-empty", "-m", "two")
	check("1.2.4", false)
	git("tag", "v1.3.0-rc1")
	check("1.2.4", true)
	if err := os.WriteFile(filepath.Join(repository, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check("1.2.4", false)
	if v, _ := versionOf(t.Context(), repository, "", false); !strings.HasSuffix(v.program, ".changes") {
		t.Errorf("with a new file the program says %s", v.program)
	}
	for _, bad := range []string{"1.2", "01.2.3", "1.2.3-x", "1.2.3 ", "1.2.3;id"} {
		if v, err := versionOf(t.Context(), repository, bad, false); err == nil {
			t.Errorf("%q is taken as %+v", bad, v)
		}
	}
}
