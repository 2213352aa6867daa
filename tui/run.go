package tui

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/term"

	"nigh/agent/control"
	"nigh/tui/theme"
)

// Control is what the terminal UI needs of an agent; [control.Client] has it.
// The methods may block until their context ends; they are never called on the
// event loop.
type Control interface {
	// WatchLog returns the state now, as the first event, and every change after
	// it, the log included. The channel is closed when the stream is over. What the events point
	// to belongs to the UI from then on.
	WatchLog(ctx context.Context) (<-chan control.Event, error)
	Send(ctx context.Context, r control.SendRequest) ([]control.Transfer, error)
	Accept(ctx context.Context, id string, r control.AcceptRequest) error
	Refuse(ctx context.Context, id string) error
	CancelTransfer(ctx context.Context, id string) error
	PauseTransfer(ctx context.Context, id string) error
	ResumeTransfer(ctx context.Context, id string) error
	ChangeTrust(ctx context.Context, r control.TrustRequest) (control.Trusted, error)
	Pair(ctx context.Context, r control.PairRequest) (control.Pairing, error)
	WaitPairing(ctx context.Context, id string) (control.Pairing, error)
	SetupCode(ctx context.Context, r control.SetupCodeRequest) (control.SetupCode, error)
	Find(ctx context.Context, r control.FindRequest) error
	Group(ctx context.Context, r control.GroupRequest) (control.Group, error)
	Groups(ctx context.Context) ([]control.Group, error)
	LeaveGroup(ctx context.Context, ifname string) error
	Messages(ctx context.Context, q control.MessageQuery) (control.MessagePage, error)
	SendMessage(ctx context.Context, r control.MessageRequest) (control.Message, error)
	CancelMessage(ctx context.Context, id string) error
	Doctor(ctx context.Context) ([]control.Check, error)
	Shares(ctx context.Context) ([]control.Share, error)
	AddShare(ctx context.Context, r control.ShareRequest) (control.Share, error)
	ChangeShare(ctx context.Context, name string, r control.ShareChange) (control.Share, error)
	RemoveShare(ctx context.Context, name string) error
	Browse(ctx context.Context, r control.BrowseRequest) (control.Listing, error)
	SearchEach(ctx context.Context, r control.SearchRequest, each func([]control.ShareEntry) error) (control.SearchAnswer, error)
	Get(ctx context.Context, r control.GetRequest) (control.Transfer, error)
	ReadMessages(ctx context.Context, r control.ReadRequest) (control.Unread, error)
	ChangeConfiguration(ctx context.Context, r control.SettingsRequest) (control.Configuration, error)
}

// Options says what [Run] works on and how it looks.
type Options struct {
	Client Control
	Input  io.Reader // nil = standard input; must be a terminal
	Output io.Writer // nil = standard output; must be a terminal

	// ASCII draws with ASCII only. It is also done when the locale is not UTF-8.
	ASCII bool
	// Color is "always", "never", or "auto" (also ""): colours unless the
	// variable NO_COLOR is set to anything.
	Color string
	// Background is "dark", "light" or "auto" (also ""). Auto reads COLORFGBG,
	// and else uses only colours that are readable on both.
	Background string
	// Mouse takes the wheel and clicks; selecting text with the mouse then needs the
	// shift key in most terminals.
	Mouse bool
	// Still redraws figures that change by themselves (rates, bars, times) at most once
	// a second, and clocks every ten.
	Still bool
	// Linear draws no boxes and no bars, and a label before each value, for screen
	// readers and braille displays. It is Still too.
	Linear bool
	// Remedies are the changes of the system that the Log screen offers.
	Remedies []Remedy
	// Report writes a bug report into a new file; nil = that cannot be done here.
	Report func(ctx context.Context, path string) error
	// Embedded says that the agent runs inside this program, so that quitting
	// stops it.
	Embedded bool
	// Service returns the command that makes nigh a service of this machine, "" when it is one or cannot be. It is asked
	// at the first run of a device, and may block until its context ends. nil asks nothing.
	Service func(ctx context.Context) string
	// Leaving is told the command of Service when the person leaves the terminal UI to run it; Run returns then.
	Leaving func(command string)
	// Dir is where choosing files begins; "" = the working folder.
	Dir string
	// Env looks up environment variables; nil = os.Getenv.
	Env func(string) string
}

// Run shows the terminal UI until the person quits or ctx ends, and leaves the
// terminal as it was. It returns nil then. It returns a [control.Error] with
// CodeUsage, at once, when the terminal cannot show it; any other error means
// that the terminal failed.
func Run(ctx context.Context, o Options) error {
	if o.Input == nil {
		o.Input = os.Stdin
	}
	if o.Output == nil {
		o.Output = os.Stdout
	}
	if o.Env == nil {
		o.Env = os.Getenv
	}
	if err := usable(o); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	a := newApp(ctx, o.Client, themeOf(o), time.Now())
	a.embedded, a.service = o.Embedded, o.Service
	if o.Leaving != nil {
		a.leaving = o.Leaving
	}
	a.home, _ = os.UserHomeDir()
	if a.dir = o.Dir; a.dir == "" {
		a.dir, _ = os.Getwd()
	}
	a.ring = func() { _, _ = io.WriteString(o.Output, "\a") }
	a.clipboard, a.openFolder = clipboardOf(o), openerOf(o.Env)
	a.remedies, a.report = o.Remedies, o.Report
	if path, err := os.Executable(); err == nil {
		a.program = path // root's PATH may not have it
	}
	// The events are paced, so that a slow link (a serial line, ssh from far) is not
	// flooded with frames; a key is drawn within a fortieth of a second.
	a.pace = framePace
	if a.still = o.Still || o.Linear; a.still {
		a.pace = stillPace
	}
	const framesPerSecond = 40
	options := []tea.ProgramOption{
		tea.WithoutSignalHandler(), // ctx ends with them; Bubble Tea's own would then wait for ever for somebody to hear of it
		tea.WithAltScreen(), tea.WithFPS(framesPerSecond), tea.WithInput(o.Input), tea.WithOutput(o.Output),
	}
	if o.Mouse {
		options = append(options, tea.WithMouseCellMotion())
	}
	program := tea.NewProgram(a, options...)
	over, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(quit)
		select {
		case <-ctx.Done():
			// As a key does it. Bubble Tea's own way, WithContext, closes the terminal under the goroutine that reads it.
			program.Quit()
		case <-over:
		}
	}()
	_, err := program.Run()
	close(over)
	<-quit
	if o.Env("TERM") == "linux" {
		// The console has no second screen to come back from: what is left of
		// the last frame goes away.
		_, _ = io.WriteString(o.Output, "\x1b[H\x1b[2J")
	}
	if ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// usable says why the UI cannot be shown here.
func usable(o Options) error {
	no := func(why string) error {
		return &control.Error{Code: control.CodeUsage, Message: why, Hint: "run: nigh status, or: nigh help"}
	}
	in, ok := o.Input.(term.File)
	if !ok || !term.IsTerminal(in.Fd()) {
		return no("the terminal UI needs a terminal, and standard input is none")
	}
	out, ok := o.Output.(term.File)
	if !ok || !term.IsTerminal(out.Fd()) {
		return no("the terminal UI needs a terminal, and standard output is none")
	}
	switch t := o.Env("TERM"); t {
	case "", "dumb", "unknown":
		return no("the terminal cannot place text on the screen (TERM is " + quoted(t) + ")")
	}
	return nil
}

func themeOf(o Options) *theme.Theme {
	colour := o.Color == "always" || o.Color != "never" && o.Env("NO_COLOR") == ""
	bg := theme.BackgroundOf(o.Env("COLORFGBG"))
	switch o.Background {
	case "dark":
		bg = theme.Dark
	case "light":
		bg = theme.Light
	}
	th := theme.New(o.ASCII || !utf8Locale(o.Env), colour, bg)
	if th.Linear = o.Linear; o.Linear {
		th.Up, th.Down = "up", "down"
	}
	th.Console = o.Env("TERM") == "linux"
	// The fonts of the Linux console have none.
	th.HalfBlocks = !th.ASCIIOnly && !th.Console
	return th
}

// utf8Locale reports whether the locale's characters are UTF-8.
func utf8Locale(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
