package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"nigh/agent/control"
)

// Env is what the command line gets from main.go. Every function may be nil: then
// what needs it is not possible and says so.
type Env struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Version string

	// RunAgent runs an agent until ctx ends. An [*control.Error] that it returns
	// reaches the person as it is.
	RunAgent func(ctx context.Context, o AgentOptions) error
	// RunTUI runs the terminal UI until the person leaves it.
	RunTUI func(ctx context.Context, o TUIOptions) error
	// Diagnose runs the checks that need no agent, for `nigh doctor`.
	Diagnose func(ctx context.Context) []control.Check
	// Beside adds to the agent's checks what only the caller may see, when that is root.
	Beside func(ctx context.Context, checks []control.Check) []control.Check
	// Remedies are the changes of the system that `nigh doctor --fix` can make.
	Remedies []Remedy
	// Service is the service manager, for `nigh service`.
	Service Service
	// Report makes the text of `nigh bug-report`, with everything masked that tells who
	// and where somebody is.
	Report func(ctx context.Context, f Findings) string
	// Identity reads the device's identity from the state folder, for `nigh id`
	// without an agent.
	Identity func(ctx context.Context) (Identity, error)
	// ExportKey and ImportKey seal and open the device key in the state folder, for
	// `nigh trust export --key` and `nigh trust import --key`.
	ExportKey func(ctx context.Context, o KeyOptions) (KeyExport, error)
	ImportKey func(ctx context.Context, o KeyOptions) (KeyImport, error)
	// Settings reads what an agent would go by, for `nigh config show` without an agent.
	Settings func(ctx context.Context) ([]control.Setting, error)
	// Choose keeps settings for the next agent, for `nigh config set` without one.
	Choose func(ctx context.Context, r control.SettingsRequest) error

	patience time.Duration // with the agent when completing; 0 = completeWait, but in a test
}

// AgentOptions are the flags of `nigh agent`. A zero field means that the flag
// was not given.
type AgentOptions struct {
	State      string   // folder of the state
	Config     string   // configuration file
	Socket     string   // path of the local API's socket
	Name       string   // what other devices see
	Listen     string   // address of the sessions, such as ":7421"
	Accept     string   // "ask", "trusted" or "all"
	Visibility string   // "everyone", "trusted" or "hidden"
	Inbox      string   // folder of received files
	Interfaces []string // the only links to use
	NoDirect   bool     // without Wi-Fi Direct
	Engine     string   // "auto", "system", "private" or "networkmanager": who forms groups
	SetupCode  string   // file with the setup code
	Verbose    bool     // log at debug level
}

// TUIOptions are the flags of `nigh` alone.
type TUIOptions struct {
	Socket string // path of the local API's socket, "" = control.FindSocket()
	Color  bool   // colours are wanted
	ASCII  bool   // no line drawing characters
	Mouse  bool   // the wheel and clicks are taken
	Plain  bool   // no boxes, labels before values
	Still  bool   // as little redrawing as can be
	// Report writes a bug report into a new file.
	Report func(ctx context.Context, path string) error
}

// Identity is what `nigh id` prints.
type Identity struct {
	ID    string `json:"id"`
	Short string `json:"short"`
	Name  string `json:"name"`
}

// answerWait bounds a call that the agent answers from its memory.
const answerWait = 10 * time.Second

// app is one run of the command line.
type app struct {
	env     Env
	client  *control.Client // made by agent
	socket  string
	color   string
	quiet   bool
	verbose bool
	json    bool
}

// Main runs one command and returns its exit code. ctx ends at an interrupt; one
// that signal.NotifyContext ended for a hangup lets go on what the agent does for
// the command. Main never calls os.Exit and does not touch the process's own
// streams.
func Main(ctx context.Context, args []string, env Env) int {
	a := &app{env: env}
	if len(args) == 4 && args[0] == "__complete_bash" {
		a.completeBash(ctx, args[1], args[2], args[3])
		return 0
	}
	root := a.root()
	root.SetArgs(append([]string{}, args...)) // never nil, which would mean os.Args
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, syscall.EPIPE) {
		// Whoever read our output has seen enough. 141 is what a shell shows for a
		// program that SIGPIPE ended.
		return 141
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 130
	}
	e, ok := errors.AsType[*control.Error](err)
	if !ok {
		e = &control.Error{Code: control.CodeFailed, Message: err.Error()}
	}
	a.complain(e)
	// A flag error can come before --json was read.
	for _, arg := range args {
		a.json = a.json || arg == "--json"
	}
	if a.json {
		_ = a.line(struct {
			Type string `json:"type"`
			*control.Error
		}{"error", e}) // the exit code says it too
	}
	return e.Exit()
}

// complain prints e for people.
func (a *app) complain(e *control.Error) {
	fmt.Fprintf(a.env.Stderr, "nigh: error: %s\n", show(e.Message))
	if e.Hint != "" {
		fmt.Fprintf(a.env.Stderr, "nigh: hint: %s\n", show(e.Hint))
	}
}

func (a *app) root() *cobra.Command {
	var tui TUIOptions
	root := &cobra.Command{
		Use:   "nigh",
		Short: "Send files to devices near you, over Wi-Fi Direct or the LAN",
		Long: `nigh finds devices near you, over Wi-Fi Direct or the LAN, and sends them files
and folders, encrypted and checked.

On a terminal, nigh alone opens the terminal UI; elsewhere it is nigh status.`,
		Example: `  nigh peers                           devices near and known
  nigh send photos/ --to "Ana's laptop"
  nigh inbox                           what waits for your answer
  nigh accept 3f2a
  nigh msg "Dinner is ready" --to kitchen-pi
  nigh doctor                          what is wrong, and what to do`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			return unknownCommand(cmd, args)
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.prepare() },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.bare(cmd.Context(), tui)
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	p := root.PersistentFlags()
	p.StringVar(&a.socket, "socket", "", "`PATH` of the agent's socket (NIGH_SOCKET)")
	p.StringVar(&a.color, "color", "auto", "use colours: `WHEN` is auto, always or never")
	p.BoolVarP(&a.quiet, "quiet", "q", false, "say nothing on standard error but errors")
	p.BoolVarP(&a.verbose, "verbose", "v", false, "say more; for an agent, log at debug level")
	root.Flags().BoolVar(&tui.ASCII, "ascii", false, "terminal UI without line drawing characters")
	root.Flags().BoolVar(&tui.Mouse, "mouse", false, "terminal UI that takes the wheel and clicks")
	root.Flags().BoolVar(&tui.Plain, "plain", false, "terminal UI without boxes and bars, with labels before values")
	root.Flags().BoolVar(&tui.Still, "no-motion", false, "terminal UI that redraws figures at most once a second, clocks every ten")
	complete(root, "color", "auto", "always", "never")
	root.AddCommand(
		a.agentCommand(), a.idCommand(), a.statusCommand(), a.peersCommand(), a.findCommand(),
		a.groupCommand(), a.sendCommand(), a.inboxCommand(), a.acceptCommand(), a.refuseCommand(),
		a.transfersCommand(), a.outboxCommand(), a.historyCommand(), a.cancelCommand(), a.pauseCommand(), a.resumeCommand(), a.trustCommand(), a.pairCommand(), a.setupCodeCommand(),
		a.shareCommand(), a.browseCommand(), a.searchCommand(), a.getCommand(), a.msgCommand(), a.messagesCommand(),
		a.doctorCommand(), a.logCommand(), a.serviceCommand(), a.configCommand(), a.bugReportCommand(), a.completionCommand(), a.versionCommand(),
	)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printHelp(cmd) })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// A flag of a command that was mistyped: the command is what to speak about.
		if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
			return unknownCommand(cmd, args)
		}
		return unknownFlag(cmd, err)
	})
	return root
}

// prepare checks the flags of every command.
func (a *app) prepare() error {
	switch a.color {
	case "auto", "always", "never":
	default:
		return &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf("--color is auto, always or never, not %q", a.color)}
	}
	return nil
}

// agent returns the client of the agent.
func (a *app) agent() *control.Client {
	if a.client == nil {
		a.client = &control.Client{Socket: a.socket}
		if a.socket == "" {
			// Looked up once: a command that makes several calls stays with one agent.
			a.client.Socket = control.FindSocket()
		}
		if a.verbose {
			a.say("the agent's socket is %s", a.client.Socket)
		}
	}
	return a.client
}

// bare is nigh without a command.
func (a *app) bare(ctx context.Context, o TUIOptions) error {
	if !a.terminal(a.env.Stdout) || !isTerminal(a.env.Stdin) || a.env.RunTUI == nil {
		if isTerminal(a.env.Stdout) && !placesText() {
			a.say("this terminal cannot show the terminal UI (TERM=%s); here is nigh status", os.Getenv("TERM"))
		}
		return a.status(ctx)
	}
	o.Socket = a.socket
	o.Color = a.colors(a.env.Stdout)
	if a.env.Report != nil {
		o.Report = a.writeReport
	}
	return a.env.RunTUI(ctx, o)
}

// unknownCommand is the error for words after a command that only has commands.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := &control.Error{Code: control.CodeUsage,
		Message: fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0]),
		Hint:    "see: " + cmd.CommandPath() + " --help"}
	cmd.SuggestionsMinimumDistance = 2
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		e.Hint = "did you mean: " + cmd.CommandPath() + " " + strings.Join(names, ", or "+cmd.CommandPath()+" ")
	}
	return e
}

// onlyCommands makes cmd a command that only has commands below it.
func onlyCommands(cmd *cobra.Command) *cobra.Command {
	cmd.Args = unknownCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		return usage(cmd, "%s needs a command: %s", cmd.CommandPath(), strings.Join(names, ", "))
	}
	return cmd
}

// usage returns the error for wrong arguments of cmd.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf(format, args...), Hint: "see: " + cmd.CommandPath() + " --help"}
}

// takes returns a check that a command has at least least and at most most (-1:
// any number of) arguments; what names them.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(cmd, "%s needs %s", cmd.CommandPath(), what)
		case most == 0 && len(args) > 0:
			return usage(cmd, "%s takes no argument, but got %q", cmd.CommandPath(), args[0])
		case most >= 0 && len(args) > most:
			return usage(cmd, "%s takes only %s, but got %q too", cmd.CommandPath(), what, args[most])
		}
		return nil
	}
}

// jsonFlag gives cmd the flag --json; shape says what it prints.
func (a *app) jsonFlag(cmd *cobra.Command, shape string) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print "+shape)
}

// isTerminal reports whether stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
