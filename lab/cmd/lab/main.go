// Lab runs commands and tests on simulated Wi-Fi radios, in a virtual machine that it makes by itself.
//
//	lab prepare                     make or check what the guest is booted from
//	lab run -- COMMAND...           run a command in the guest; its exit status is lab's
//	lab shell                       a shell in the guest, on this terminal
//
// Everything the guest is made of comes from the Debian archive and is kept in $NIGH_LAB_CACHE, else ~/.cache/nigh-lab.
// Exit status: the command's own, 125 when the lab itself failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nigh/lab/vm"
)

// labFailed is the exit status when the lab, not the command, is at fault; as with docker and ssh's 255 it is outside of
// what commands commonly use.
const labFailed = 125

// exitStatus ends the program with a status and without a message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := command().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		os.Exit(int(status))
	}
	fmt.Fprintln(os.Stderr, "lab: error:", err)
	os.Exit(labFailed)
}

// options are the flags that all commands which boot a guest share.
type options struct {
	systemd bool
	memory  int
	cpus    int
	timeout time.Duration
	console bool
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Simulated Wi-Fi radios in a virtual machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(prepareCommand(), runCommand(), shellCommand())
	return root
}

func (o *options) flags(c *cobra.Command, timeout time.Duration) {
	f := c.Flags()
	f.BoolVar(&o.systemd, "systemd", false, "boot systemd with Debian's own D-Bus and wpa_supplicant services")
	f.IntVar(&o.memory, "mem", 2048, "memory of the guest in MiB")
	f.IntVar(&o.cpus, "cpus", 2, "processors of the guest")
	f.DurationVar(&o.timeout, "timeout", timeout, "limit for the whole run; 0 = none")
	f.BoolVar(&o.console, "console", false, "show the kernel's console on standard error")
}

// boot prepares and boots, and gives a context that ends with the time limit.
func (o *options) boot(ctx context.Context) (*vm.Machine, context.Context, context.CancelFunc, error) {
	cancel := context.CancelFunc(func() {})
	if o.timeout > 0 {
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("time limit of %v for the whole run", o.timeout))
	}
	parts, err := prepare(ctx)
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	c := vm.Config{Parts: parts, Memory: o.memory, CPUs: o.cpus, Systemd: o.systemd}
	if o.console {
		c.Console = os.Stderr
	}
	start := time.Now()
	m, err := vm.Boot(ctx, c)
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	fmt.Fprintf(os.Stderr, "lab: guest booted in %.1f s (kernel %s)\n", time.Since(start).Seconds(), parts.Version)
	return m, ctx, cancel, nil
}

func prepare(ctx context.Context) (*vm.Parts, error) {
	cache, err := vm.CacheFolder()
	if err != nil {
		return nil, err
	}
	return vm.Prepare(ctx, cache, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: plain})))
}

// plain leaves out the time: the reader sees it happen.
func plain(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func prepareCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "prepare",
		Short: "Make or check what the guest is booted from",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			start := time.Now()
			parts, err := prepare(c.Context())
			if err != nil {
				return err
			}
			how := "checked"
			if parts.Built {
				how = "built"
			}
			fmt.Printf("lab: %s %s in %.1f s: kernel %s\n", how, parts.Cache, time.Since(start).Seconds(), parts.Version)
			return nil
		},
	}
}

func runCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command in the guest, in this folder, as root",
		Args:  cobra.MinimumNArgs(1),
	}
	c.Flags().SetInterspersed(false)
	terminal := c.Flags().BoolP("terminal", "t", false, "give the command the guest's terminal, on this one")
	o.flags(c, 30*time.Minute)
	c.RunE = func(c *cobra.Command, args []string) error {
		m, ctx, cancel, err := o.boot(c.Context())
		if err != nil {
			return err
		}
		defer cancel()
		return finish(m, func() (int, error) {
			return m.Run(ctx, vm.Command{Args: args, Dir: here(), Output: os.Stdout, Terminal: *terminal})
		})
	}
	return c
}

func shellCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "shell",
		Short: "Open a shell in the guest on this terminal",
		Args:  cobra.NoArgs,
	}
	o.flags(c, 0)
	c.RunE = func(c *cobra.Command, _ []string) error {
		m, ctx, cancel, err := o.boot(c.Context())
		if err != nil {
			return err
		}
		defer cancel()
		return finish(m, func() (int, error) {
			return m.Run(ctx, vm.Command{Args: []string{"bash", "-i"}, Dir: here(), Terminal: true})
		})
	}
	return c
}

// finish runs a command, ends the guest, and turns the command's status into ours.
func finish(m *vm.Machine, run func() (int, error)) error {
	status, err := run()
	if cerr := m.Close(); err == nil {
		err = cerr
	}
	if err == nil && status != 0 {
		err = exitStatus(status)
	}
	return err
}

// here is the present folder, which the guest sees at the same place.
func here() string {
	folder, err := os.Getwd()
	if err != nil {
		return "/"
	}
	return folder
}
