package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"sync"
	"time"

	"nigh/agent"
	"nigh/agent/control"
	"nigh/agent/doctor"
	"nigh/cli"
	"nigh/systemd"
	"nigh/tui"
)

// embeddedStart bounds how long the terminal UI waits for its own agent.
const embeddedStart = 5 * time.Second

// runTUI is `nigh` on a terminal: on the agent that answers, else on one that
// lives as long as the terminal UI.
func runTUI(ctx context.Context, o cli.TUIOptions) error {
	wanted, err := screens(ctx, o)
	if err != nil || wanted == "" || ctx.Err() != nil {
		return err
	}
	if program, err := os.Executable(); err != nil || wanted != rootInstall(program) {
		fmt.Fprintf(os.Stdout, "This makes nigh a service:\n\n    %s\n\nThen run nigh again.\n", wanted)
		return nil
	}
	// Root is asked for nothing more. The agent of the terminal UI has ended: its state is free.
	fmt.Fprintln(os.Stderr, "Installing the service...")
	if _, err := serviceManager().Install(ctx, "root"); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "nigh runs as root, now and at each boot. Run nigh again.")
	return nil
}

// screens shows the terminal UI. When it returns the agent that lived with it has ended. wanted is the command that makes nigh a
// service, when the person left to run it.
func screens(ctx context.Context, o cli.TUIOptions) (wanted string, err error) {
	client := &control.Client{Socket: o.Socket}
	cfg, wrong := settings(cli.AgentOptions{Socket: o.Socket})
	asked, cancel := context.WithTimeout(ctx, embeddedStart)
	_, err = client.Status(asked)
	cancel()
	embedded := false
	if errors.Is(err, &control.Error{Code: control.CodeNoAgent}) {
		if wrong != nil { // else it is the agent's matter, which runs
			return "", agent.Explain(wrong)
		}
		cfg.Mode, cfg.Loose = "embedded", "this agent is part of the terminal UI, which opens files for you; one of its own (nigh agent, or the service) has a sandbox"
		a, err := agent.New(cfg)
		if err != nil {
			return "", agent.Explain(err)
		}
		var running sync.WaitGroup
		defer running.Wait()
		life, end := context.WithCancel(ctx)
		defer end()
		running.Go(func() { _ = a.Run(life) }) // what breaks shows as "agent not running"
		client.Socket, embedded = a.Socket(), true
	}
	defer notify(ctx, client.Socket)()
	chosen := cfg
	_ = chosen.Complete() // what is wrong with it was said, or is the agent's matter
	color := "never"
	if o.Color {
		color = "always"
	}
	options := tui.Options{
		Client: client, Input: os.Stdin, Output: os.Stdout, Embedded: embedded,
		ASCII: o.ASCII, Color: color, Mouse: o.Mouse || chosen.Mouse != nil && *chosen.Mouse, Linear: o.Plain, Still: o.Still,
		Remedies: offered(), Report: o.Report, Leaving: func(command string) { wanted = command },
	}
	if embedded {
		options.Service = serviceCommand
	}
	err = tui.Run(ctx, options)
	return wanted, err
}

// offered are the remedies of the terminal UI.
func offered() []tui.Remedy {
	var all []tui.Remedy
	for _, r := range doctor.Remedies(os.Getenv("NIGH_WPA_BUS")) {
		all = append(all, tui.Remedy{
			Name: r.Name, Does: r.Does, Lost: r.Lost, Path: r.Path, Text: r.Text,
			Plan: func(ctx context.Context) ([]string, error) { return r.Plan(ctx, false) }, InForce: r.InForce, Allowed: r.Allowed, Apply: r.Apply,
		})
	}
	return all
}

// rootInstall is the command with which root makes nigh its own service.
func rootInstall(program string) string { return program + " service install --user root" }

// serviceCommand returns the command that has nigh run as a service of this user, "" when it does or cannot.
func serviceCommand(ctx context.Context) string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	name := u.Username
	if by := os.Getenv("SUDO_USER"); u.Uid == "0" && by != "" {
		name = by
	}
	s, err := systemd.Status(ctx, name)
	program, failed := os.Executable()
	switch {
	case err != nil || failed != nil || s.Active == "active" || s.Active == "activating":
		return ""
	case s.File != "":
		return "sudo systemctl enable --now " + s.Unit
	case name == "root":
		return rootInstall(program)
	}
	return "sudo " + program + " service install"
}
