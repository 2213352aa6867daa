package cli_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"nigh/agent/control"
	"nigh/cli"
)

// Every command has a script in testdata in which it succeeds, and one with --json where it has that.
func TestEveryCommandHasScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	var text strings.Builder
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(raw)
	}
	leaves := cli.Leaves()
	if len(leaves) < 45 {
		t.Fatalf("only %d commands", len(leaves))
	}
	for _, leaf := range leaves {
		good := regexp.MustCompile(`(?m)^(exec|run( -(tty|ttyerr|in \S+|cols \d+|when ('[^']*'|\S+) \S+))*) nigh ` + leaf.Path + `( .*)?$`)
		lines := good.FindAllString(text.String(), -1)
		if len(lines) == 0 {
			t.Errorf("no script in which nigh %s succeeds", leaf.Path)
		}
		if leaf.JSON && !strings.Contains(strings.Join(lines, "\n")+"\n", " --json") {
			t.Errorf("no script of nigh %s --json", leaf.Path)
		}
	}
}

// sample is what each command is given where only the outcome counts.
var sample = map[string][]string{
	"id": {}, "status": {}, "peers": {}, "peers add": {"10.0.0.2"}, "peers remove": {"10.0.0.2"}, "peers addresses": {}, "find": {},
	"group create": {}, "group join": {"ana"}, "group invite": {"ana"}, "group leave": {}, "group show": {}, "group qr": {},
	"send": {"every_test.go", "--to", "ana"}, "inbox": {}, "accept": {"3f2a"}, "refuse": {"3f2a"}, "transfers": {}, "outbox": {}, "history": {},
	"cancel": {"1111"}, "pause": {"1111"}, "resume": {"1111"}, "trust list": {}, "trust add": {"AAAA-BBBB"}, "trust set": {"ana", "--name", "Ana"},
	"trust remove": {"ana"}, "trust block": {"ana"}, "trust export": {"-"}, "trust import": {"-"}, "pair": {"ana", "--yes"}, "setup-code": {},
	"share add": {"."}, "share list": {}, "share change": {"music", "--hidden"}, "share remove": {"music"}, "browse": {"ana"}, "search": {"holiday"}, "get": {"ana:music/a.ogg"},
	"msg": {"hello", "--to", "ana"}, "messages": {}, "log": {}, "config show": {}, "config set": {"name", "pi"}, "config reload": {},
}

// alone are the commands that do their work without an agent.
var alone = map[string]bool{"agent": true, "completion": true, "version": true, "bug-report": true, "doctor": true,
	"service install": true, "service remove": true, "service status": true}

// main runs one command in this process.
func main(t *testing.T, socket string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Main(t.Context(), append(args, "--socket", socket), cli.Env{Stdin: strings.NewReader("{}"), Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

// Whatever the agent fails with, every command ends with that code's exit code, says why and what to do, and with --json has the
// error as its last line; so it does without an agent, and for arguments that it does not take.
func TestEveryCommandFailsAlike(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "nigh") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	outcomes := map[string]int{
		control.CodeFailed: 1, control.CodeUsage: 2, control.CodeRefused: 3, control.CodeNotFound: 4, control.CodeAway: 4, control.CodeTimeout: 5,
		control.CodePermission: 7, control.CodePartial: 8, "of_next_year": 1,
	}
	left := maps.Clone(sample)
	for _, leaf := range cli.Leaves() {
		args, ok := sample[leaf.Path]
		if delete(left, leaf.Path); !ok && !alone[leaf.Path] {
			t.Errorf("no sample of nigh %s", leaf.Path)
		}
		words := strings.Fields(leaf.Path)
		if code, _, errs := main(t, socket, append(words, "--no-such-flag")...); code != 2 || !strings.Contains(errs, "nigh: hint: see: nigh "+leaf.Path) {
			t.Errorf("nigh %s --no-such-flag: exit %d\n%s", leaf.Path, code, errs)
		}
		if !ok {
			continue
		}
		line := append(words, args...)
		if leaf.JSON {
			line = append(line, "--json")
		}
		check := func(code string, exit int, message string) {
			t.Helper()
			got, out, errs := main(t, socket, line...)
			if got != exit || !strings.Contains(errs, "nigh: error: ") || !strings.Contains(errs, message) {
				t.Errorf("nigh %s, %s: exit %d, want %d\n%s", leaf.Path, code, got, exit, errs)
			}
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if last := lines[len(lines)-1]; leaf.JSON && !strings.HasPrefix(last, `{"type":"error","code":`+strconv.Quote(code)) {
				t.Errorf("nigh %s --json, %s: the last line is %s", leaf.Path, code, last)
			}
		}
		check(control.CodeNoAgent, 6, "run: nigh agent")
		for code, exit := range outcomes {
			stop := failing(t, socket, &control.Error{Code: code, Message: "the reason", Hint: "the deed"})
			check(code, exit, "the reason\nnigh: hint: the deed\n")
			stop()
		}
	}
	for path := range left {
		t.Errorf("there is no command %q", path)
	}
}

// failing starts an agent that fails every call with e.
func failing(t *testing.T, socket string, e *control.Error) (stop func()) {
	t.Helper()
	b, err := newBackend("testdata/backend.json", "")
	if err != nil {
		t.Fatal(err)
	}
	b.Fail = map[string]*control.Error{"*": e}
	ln, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- control.NewServer(control.Config{Backend: served{b}}).Serve(ctx, ln) }()
	return func() { cancel(); <-done }
}
