// Lab runs commands and tests on simulated Wi-Fi radios, in a virtual machine that it makes by itself.
//
//	lab prepare [-tree NAME]                make or check what the guest is booted from
//	lab run [flags] -- COMMAND...           run a command in the guest; its exit status is lab's
//	lab shell [flags]                       a shell in the guest, on this terminal
//	lab test [flags] [-run RE] PACKAGE...   run the packages' radio tests, each in a process of its own
//	lab demo [flags] [-auto]                two nodes find each other and move files
//
// Everything the guest is made of comes from the Debian archive and is kept in $NIGH_LAB_CACHE, else ~/.cache/nigh-lab.
// Exit status: the command's own; for tests 0 only when every package ran at least one test and all passed, else 1; 2 for
// wrong usage; 125 when the lab itself failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"nigh/lab/radio"
	"nigh/lab/vm"
)

const (
	testsFailed = 1
	wrongUsage  = 2
	// labFailed is the exit status when the lab, not the command, is at fault: outside of what commands commonly use.
	labFailed = 125
)

// exitStatus ends the program with a status and without a message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// verbs are the subcommands.
var verbs = map[string]func(ctx context.Context, args []string) error{
	"prepare": prepareVerb,
	"run":     runVerb,
	"shell":   shellVerb,
	"test":    testVerb,
	"demo":    demoVerb,
}

const usage = `usage: lab prepare [-tree NAME]
       lab run [flags] -- COMMAND [ARGUMENT...]
       lab shell [flags]
       lab test [flags] [-run RE] PACKAGE...
       lab demo [flags] [-auto]
lab VERB -h shows the flags.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		os.Exit(int(status))
	}
	fmt.Fprintln(os.Stderr, "lab: error:", err)
	os.Exit(labFailed)
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if verb, ok := verbs[args[0]]; ok {
			return verb(ctx, args[1:])
		}
		switch args[0] {
		case "help", "-h", "-help", "--help":
			fmt.Println(usage)
			return nil
		}
	}
	fmt.Fprintln(os.Stderr, usage)
	return exitStatus(wrongUsage)
}

// options are the flags that all verbs which boot a guest share.
type options struct {
	set     *flag.FlagSet
	systemd bool
	memory  int
	cpus    int
	timeout time.Duration
	console bool
	trees   []string // of vm.Trees
	cells   []radio.Cell
}

func newOptions(verb string, timeout time.Duration) *options {
	o := &options{set: flag.NewFlagSet("lab "+verb, flag.ContinueOnError)}
	o.set.BoolVar(&o.systemd, "systemd", false, "boot systemd with Debian's own D-Bus and wpa_supplicant services")
	o.set.IntVar(&o.memory, "mem", 2048, "memory of the guest in MiB")
	o.set.IntVar(&o.cpus, "cpus", 2, "processors of the guest")
	o.set.DurationVar(&o.timeout, "timeout", timeout, "limit for the whole run; 0 = none")
	o.set.BoolVar(&o.console, "console", false, "show the kernel's console on standard error")
	o.set.Func("tree", "`name` of programs of a newer Debian suite that the guest gets below "+vm.TreesFolder+"; may be repeated", func(name string) error {
		if _, ok := vm.Trees[name]; !ok {
			return fmt.Errorf("there are %s", strings.Join(slices.Sorted(maps.Keys(vm.Trees)), ", "))
		}
		o.trees = append(o.trees, name)
		return nil
	})
	o.set.Func("cell", "`cell` of the matrix: settings out of p2pdevice=off, channels=2, names=long, supplicant=2.11 with commas between them; "+
		"lab test takes several", func(name string) error {
		cell, err := radio.ParseCell(name)
		o.cells = append(o.cells, cell)
		return err
	})
	return o
}

// parse reads the flags; from least to most arguments must be left, most < 0 meaning any number.
func (o *options) parse(args []string, least, most int) error {
	if err := o.set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return exitStatus(wrongUsage)
	}
	if n := o.set.NArg(); n < least || most >= 0 && n > most {
		fmt.Fprintln(os.Stderr, usage)
		return exitStatus(wrongUsage)
	}
	if len(o.cells) > 0 {
		return nil
	}
	cell, err := radio.ParseCell(os.Getenv(radio.CellEnv))
	o.cells = []radio.Cell{cell}
	return err
}

// guest is a booted machine with the time limit of the run.
type guest struct {
	*vm.Machine
	ctx    context.Context
	cancel context.CancelFunc
}

// boot prepares and boots. Folders are those of the host that the guest must see.
func (o *options) boot(ctx context.Context, parts *vm.Parts, folders ...string) (*guest, error) {
	trees, err := prepareTrees(ctx, parts.Cache, o.allTrees())
	if err != nil {
		return nil, err
	}
	c := vm.Config{Parts: parts, Memory: o.memory, CPUs: o.cpus, Systemd: o.systemd, Folders: folders, Trees: trees}
	if o.console {
		c.Console = os.Stderr
	}
	cancel := context.CancelFunc(func() {})
	if o.timeout > 0 {
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("time limit of %v for the whole run", o.timeout))
	}
	start := time.Now()
	m, err := vm.Boot(ctx, c)
	if err != nil {
		cancel()
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "lab: guest booted in %.1f s, kernel %s\n", time.Since(start).Seconds(), parts.Version)
	return &guest{m, ctx, cancel}, nil
}

// close ends the guest and adds its error to err.
func (g *guest) close(err *error) {
	g.cancel()
	if cerr := g.Close(); *err == nil {
		*err = cerr
	}
}

// once runs one command, ends the guest, and turns the command's status into ours.
func (g *guest) once(c vm.Command) (err error) {
	defer g.close(&err)
	status, err := g.Run(g.ctx, c)
	if err == nil && status != 0 {
		err = exitStatus(status)
	}
	return err
}

func prepare(ctx context.Context) (*vm.Parts, error) {
	cache, err := vm.CacheFolder()
	if err != nil {
		return nil, err
	}
	return vm.Prepare(ctx, cache, logger())
}

// allTrees names the trees that were asked for and those that the cells need, each once.
func (o *options) allTrees() []string {
	names := slices.Clone(o.trees)
	for _, cell := range o.cells {
		names = append(names, cell.Trees()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// prepareTrees gives the named trees. Like the parts, they stay in use until the program ends.
func prepareTrees(ctx context.Context, cache string, names []string) ([]*vm.PreparedTree, error) {
	var trees []*vm.PreparedTree
	for _, name := range names {
		t, err := vm.PrepareTree(ctx, cache, vm.Trees[name], logger())
		if err != nil {
			return nil, err
		}
		trees = append(trees, t)
	}
	return trees, nil
}

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: plain}))
}

// plain leaves out the time: the reader sees it happen.
func plain(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func prepareVerb(ctx context.Context, args []string) error {
	o := newOptions("prepare", 0)
	if err := o.parse(args, 0, 0); err != nil {
		return err
	}
	how := map[bool]string{true: "built", false: "checked"}
	start := time.Now()
	parts, err := prepare(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("lab: %s %s in %.1f s: kernel %s\n", how[parts.Built], parts.Cache, time.Since(start).Seconds(), parts.Version)
	for _, name := range o.allTrees() {
		start := time.Now()
		trees, err := prepareTrees(ctx, parts.Cache, []string{name})
		if err != nil {
			return err
		}
		fmt.Printf("lab: %s %s in %.1f s\n", how[trees[0].Built], name, time.Since(start).Seconds())
	}
	return nil
}

func runVerb(ctx context.Context, args []string) error {
	o := newOptions("run", 30*time.Minute)
	terminal := o.set.Bool("t", false, "give the command the guest's terminal, on this one")
	if err := o.parse(args, 1, -1); err != nil {
		return err
	}
	return o.command(ctx, vm.Command{Args: o.set.Args(), Output: os.Stdout, Terminal: *terminal})
}

func shellVerb(ctx context.Context, args []string) error {
	o := newOptions("shell", 0)
	if err := o.parse(args, 0, 0); err != nil {
		return err
	}
	return o.command(ctx, vm.Command{Args: []string{"bash", "-i"}, Terminal: true})
}

// command boots a guest for one command in the present folder.
func (o *options) command(ctx context.Context, c vm.Command) error {
	if c.Terminal && !onTerminal() {
		return errors.New("standard input and output are not a terminal")
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	c.Dir, c.Env = here, []string{radio.CellEnv + "=" + o.cells[0].String()}
	parts, err := prepare(ctx)
	if err != nil {
		return err
	}
	g, err := o.boot(ctx, parts, here)
	if err != nil {
		return err
	}
	return g.once(c)
}

// onTerminal tells whether a person is there.
func onTerminal() bool {
	return term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
}
