package cli

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nigh/agent/control"
)

// Every command and every flag must be in the manual page.
func TestManual(t *testing.T) {
	raw, err := os.ReadFile("nigh.1")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	// Cm and its words, and Fl and the name of a flag, as mdoc(7) writes them.
	seen := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		words := strings.TrimPrefix(cmd.CommandPath(), "nigh ")
		if cmd.HasParent() && !cmd.HasAvailableSubCommands() {
			seen++
			if !regexp.MustCompile(`(?m)^\.It (Xo )?Cm ` + regexp.QuoteMeta(words) + `( |$)`).MatchString(page) {
				t.Errorf("nigh.1 has no command %q", words)
			}
		}
		entry := manualEntry(page, words)
		if cmd.PersistentFlags().HasFlags() || !cmd.HasParent() {
			entry = page // the flags of every command and of the terminal UI have their own lists
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			seen++
			name := `Fl -` + regexp.QuoteMeta(f.Name)
			if f.Shorthand != "" {
				name = `Fl ` + f.Shorthand + ` , ` + name
			}
			// mdoc puts Fl before each name of a list, but for "Fl -a | -b".
			if !regexp.MustCompile(`(` + name + `|\| -` + regexp.QuoteMeta(f.Name) + `)( |$|\n)`).MatchString(entry) {
				t.Errorf("nigh.1 has no flag --%s of %s", f.Name, cmd.CommandPath())
			}
		})
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				visit(sub)
			}
		}
	}
	root := (&app{}).root()
	root.InitDefaultHelpCmd()
	visit(root)
	if seen < 60 {
		t.Errorf("only %d commands and flags were looked at", seen)
	}
	// And no more than there is.
	for _, m := range regexp.MustCompile(`(?m)^\.It (?:Xo )?Cm ([a-z ]+?)(?: [A-Z].*)?$`).FindAllStringSubmatch(page, -1) {
		words := strings.Fields(m[1])
		if cmd, _, err := root.Find(words); err != nil || cmd.CommandPath() != "nigh "+m[1] {
			t.Errorf("nigh.1 has the command %q, the program not", m[1])
		}
	}
}

// manualEntry returns the entry of a command in the list of commands.
func manualEntry(page, words string) string {
	start := regexp.MustCompile(`(?m)^\.It (Xo )?Cm ` + regexp.QuoteMeta(words) + `( |$)`).FindStringIndex(page)
	if start == nil {
		return ""
	}
	entry := page[start[1]:]
	if end := regexp.MustCompile(`(?m)^\.It (Xo )?Cm |^\.Sh `).FindStringIndex(entry); end != nil {
		entry = entry[:end[0]]
	}
	return strings.ReplaceAll(entry, " Oc", " ")
}

func TestManualIsWellFormed(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("needs groff, to check the manual page")
	}
	var warnings strings.Builder
	cmd := exec.CommandContext(t.Context(), groff, "-mdoc", "-Tascii", "-ww", "nigh.1")
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Errorf("groff: %v\n%s", err, warnings.String())
	}
	if len(out) < 5000 {
		t.Errorf("the page has only %d bytes", len(out))
	}
}

// Every command says what it does, shows an example first, and refuses arguments it
// does not take.
func TestEveryCommandIsDocumented(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		var out strings.Builder
		cmd.SetOut(&out)
		printHelp(cmd)
		help := out.String()
		examples, usage := strings.Index(help, "\nExamples:\n"), strings.Index(help, "\nUsage:\n")
		if cmd.Short == "" || examples < 0 || usage < examples {
			t.Errorf("%s: the help has no examples before its usage:\n%s", cmd.CommandPath(), help)
		}
		if strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 64 {
			t.Errorf("%s: %q is not a short line without a period", cmd.CommandPath(), cmd.Short)
		}
		if cmd.Args == nil {
			t.Errorf("%s does not check its arguments", cmd.CommandPath())
		}
		for _, line := range strings.Split(cmd.Long, "\n") {
			if len(line) > 84 {
				t.Errorf("%s: the help has a long line: %s", cmd.CommandPath(), line)
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit((&app{}).root())
}

func TestShow(t *testing.T) {
	for in, want := range map[string]string{
		"Ana's laptop":       "Ana's laptop",
		"größe 文件 👍":         "größe 文件 👍",
		"\x1b]0;x\a":         `\x1b]0;x\a`,
		"a\nb\tc\r":          `a\nb\tc\r`,
		"\u202etxt\u2069":    `\u202etxt\u2069`,
		"\u009b31m":          `\u009b31m`,
		"bad \xff\xfe bytes": `bad \xff\xfe bytes`,
		"\u200bzero":         `\u200bzero`,
		"\U000e0041tag":      `\U000e0041tag`,
	} {
		if got := show(in); got != want {
			t.Errorf("show(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 12_345_678: "12.3 MB", 5e12: "5.0 TB", 1 << 62: "4611686.0 TB", -5: "-5 B"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for s, want := range map[float64]string{0: "0 s", 59.4: "59 s", 59.6: "1 min 00 s", 125: "2 min 05 s", 599.6: "10 min", 3599.6: "1 h 00 min", 7500: "2 h 05 min", 90000: "1 d", -1: "-", 1e300: "-"} {
		if got := span(s); got != want {
			t.Errorf("span(%v) = %q, want %q", s, got, want)
		}
	}
	for _, tt := range []struct {
		done, total int64
		want        string
	}{{0, 0, "100 %"}, {0, 5, "0 %"}, {999, 1000, "99 %"}, {1000, 1000, "100 %"}, {1 << 61, 1 << 62, "50 %"}, {-1, 5, "0 %"}} {
		if got := percent(tt.done, tt.total); got != tt.want {
			t.Errorf("percent(%d, %d) = %q, want %q", tt.done, tt.total, got, tt.want)
		}
	}
}

func TestProgressText(t *testing.T) {
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	p := progress{grown: start}
	one := []control.Transfer{{Name: "film.mkv", PeerName: "ana", BytesTotal: 1000, BytesDone: 250, Rate: 50, ETA: 15, State: "running"}}
	for _, tt := range []struct {
		second int
		done   int64
		want   string
	}{
		{0, 250, "film.mkv to ana: 25 %, 250 B of 1.0 kB, 50 B/s, 15 s left"},
		{3, 250, "film.mkv to ana: 25 %, 250 B of 1.0 kB, 50 B/s, 15 s left"},
		{12, 250, "film.mkv to ana: 25 %, stalled 12 s"},
		{13, 300, "film.mkv to ana: 30 %, 300 B of 1.0 kB, 50 B/s, 15 s left"},
	} {
		one[0].BytesDone = tt.done
		if got := p.text(one, at(tt.second)); got != tt.want {
			t.Errorf("after %d s: %q, want %q", tt.second, got, tt.want)
		}
	}
	// A transfer that does not run cannot stall.
	one[0].State = "paused"
	p.text(one, at(60))
	one[0].State = "running"
	if got := p.text(one, at(61)); strings.Contains(got, "stalled") {
		t.Errorf("right after a pause: %q", got)
	}
	p = progress{grown: start}
	many := []control.Transfer{
		{BytesTotal: 1000, BytesDone: 500, Rate: 100, State: "running"},
		{BytesTotal: 1000, BytesDone: 1000, State: "done"},
		{BytesTotal: 1000, State: "queued"},
	}
	if got, want := p.text(many, start), "3 transfers: 50 %, 1.5 kB of 3.0 kB, 100 B/s, 15 s left (1 running, 1 waiting, 1 ended)"; got != want {
		t.Errorf("several: %q, want %q", got, want)
	}
}

func TestOutcome(t *testing.T) {
	x := func(state, code string) control.Transfer { return control.Transfer{State: state, ErrorCode: code} }
	for _, tt := range []struct {
		transfers []control.Transfer
		exit      int
	}{
		{[]control.Transfer{x("done", "")}, 0},
		{[]control.Transfer{x("refused", "")}, 3},
		{[]control.Transfer{x("failed", "")}, 1},
		{[]control.Transfer{x("failed", control.CodeTimeout)}, 5},
		{[]control.Transfer{x("failed", control.CodeAway)}, 4},
		{[]control.Transfer{x("failed", "of next year")}, 1},
		{[]control.Transfer{x("done", ""), x("done", "")}, 0},
		{[]control.Transfer{x("done", ""), x("failed", "")}, 8},
		{[]control.Transfer{x("refused", ""), x("refused", "")}, 3},
		{[]control.Transfer{x("refused", ""), x("failed", "")}, 8},
		{[]control.Transfer{x("failed", ""), x("failed", control.CodeDiskFull)}, 1},
	} {
		got := 0
		if err := outcome(tt.transfers); err != nil {
			e, ok := errors.AsType[*control.Error](err)
			if !ok {
				t.Fatalf("outcome(%v) = %T", tt.transfers, err)
			}
			got = e.Exit()
		}
		if got != tt.exit {
			t.Errorf("outcome(%v) has exit code %d, want %d", tt.transfers, got, tt.exit)
		}
	}
}
