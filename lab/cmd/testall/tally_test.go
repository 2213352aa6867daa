package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// suite is a module whose tests have every outcome that the tally tells apart.
var suite = map[string]string{
	"go.mod": "module suite\n\ngo 1.26\n",
	"good/good_test.go": `package good
import "testing"
func TestPlain(t *testing.T) {}
func TestParent(t *testing.T) { t.Run("a", func(t *testing.T) {}); t.Run("b", func(t *testing.T) { t.Skip("needs a radio") }) }
func TestSkipped(t *testing.T) { t.Skipf("needs %s", "root") }
`,
	"bad/bad_test.go": `package bad
import "testing"
func TestFails(t *testing.T) { t.Error("wrong sum") }
func TestParent(t *testing.T) { t.Run("a", func(t *testing.T) { t.Error("child is wrong") }); t.Run("b", func(t *testing.T) {}) }
func TestOwnFault(t *testing.T) { t.Run("a", func(t *testing.T) {}); t.Error("parent is wrong") }
`,
	"broken/broken_test.go": "package broken\nfunc f() { undefined() }\n",
	"panics/panics_test.go": "package panics\nimport \"testing\"\nfunc TestPanics(t *testing.T) { panic(\"boom\") }\n",
	"main/main_test.go": `package main
import ("os"; "testing")
func TestMain(m *testing.M) { println("main refuses"); os.Exit(3) }
func TestNever(t *testing.T) {}
`,
	"none/none.go": "package none\n",
}

func TestTallyCountsEveryOutcome(t *testing.T) {
	dir := t.TempDir()
	for name, text := range suite {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	all := newTally(&out)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if err := stream(t.Context(), cmd, all.event); err != nil {
		t.Fatal(err)
	}
	all.summary()

	// good: TestPlain, TestParent/a; bad: TestParent/b, TestOwnFault/a.
	if all.passed != 4 || all.skipped != 2 {
		t.Errorf("passed %d, want 4; skipped %d, want 2", all.passed, all.skipped)
	}
	wantFailures := []string{
		"suite/bad TestFails", "suite/bad TestOwnFault", "suite/bad TestParent/a",
		"suite/broken", "suite/main", "suite/panics TestPanics",
	}
	slices.Sort(all.failures)
	if !slices.Equal(all.failures, wantFailures) || all.failed != len(wantFailures) {
		t.Errorf("failed %d: %q, want %q", all.failed, all.failures, wantFailures)
	}
	wantSkips := []string{"suite/good TestParent/b: needs a radio", "suite/good TestSkipped: needs root"}
	slices.Sort(all.skips)
	if !slices.Equal(all.skips, wantSkips) {
		t.Errorf("skips %q, want %q", all.skips, wantSkips)
	}
	for _, want := range []string{"wrong sum", "child is wrong", "parent is wrong", "undefined: undefined", "boom", "main refuses"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, out.String())
		}
	}
	if last := "4 passed, 6 failed, 2 skipped\n"; !strings.HasSuffix(out.String(), last) {
		t.Errorf("output does not end with %q:\n%s", last, out.String())
	}
}

func TestStreamReportsWhatIsNotATest(t *testing.T) {
	for _, tt := range []struct {
		script string
		fails  bool
	}{
		{"exit 0", false},
		{"exit 1", false}, // tests failed: their events say so
		{"exit 2", true},
		{"kill -9 $$", true},
	} {
		err := stream(t.Context(), exec.CommandContext(t.Context(), "sh", "-c", tt.script), func([]byte) {})
		if (err != nil) != tt.fails {
			t.Errorf("%s: %v", tt.script, err)
		}
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", "echo started; sleep 1000 & wait")
	lines := 0
	err := stream(ctx, cmd, func([]byte) { lines++; cancel() })
	if lines != 1 || err == nil {
		t.Errorf("lines %d, error %v", lines, err)
	}
}

func TestSlowestFirst(t *testing.T) {
	var out bytes.Buffer
	all := newTally(&out)
	for _, line := range []string{
		`{"Action":"pass","Package":"p","Test":"TestLong","Elapsed":45}`,
		`{"Action":"pass","Package":"p","Test":"TestShort","Elapsed":29}`,
		`{"Action":"pass","Package":"p","Test":"TestLonger/part","Elapsed":120}`,
		`{"Action":"pass","Package":"p","Test":"TestLonger","Elapsed":121}`,
	} {
		all.event([]byte(line))
	}
	all.slowest()
	all.slowest()
	if want := "      121 s p TestLonger\n       45 s p TestLong\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}
