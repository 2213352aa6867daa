package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"nigh/agent/control"
	"nigh/cli"
	"nigh/systemd"
)

// serviceManager is what `nigh service` works with.
func serviceManager() cli.Service {
	return cli.Service{
		Install: func(ctx context.Context, user string) (string, error) {
			program, err := os.Executable()
			if err != nil {
				return "", err
			}
			said, err := systemd.Install(ctx, systemd.Setup{Program: program, Manual: cli.Manual, User: user})
			return said, explainService(err, user, "install")
		},
		Remove: func(ctx context.Context) (string, error) {
			said, err := systemd.Remove(ctx, systemd.Setup{})
			return said, explainService(err, "", "remove")
		},
		Status: func(ctx context.Context, user string) (cli.ServiceStatus, error) {
			s, err := systemd.Status(ctx, user)
			if err != nil {
				return cli.ServiceStatus{}, explainService(err, user, "status")
			}
			out := cli.ServiceStatus{User: user, Unit: s.Unit, Installed: s.File != "", File: s.File, Enabled: s.Enabled, Active: s.Active}
			if s.Active == "active" {
				out.Since = s.Since
			} else if out.Installed {
				out.Result = s.Result
			}
			return out, nil
		},
	}
}

// explainService says for people what became of a call of the service manager.
func explainService(err error, user, verb string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, systemd.ErrRoot):
		return &control.Error{Code: control.CodePermission, Message: "only root may change the services of this machine", Hint: "run: sudo nigh service " + verb}
	case errors.Is(err, systemd.ErrNoSystemd):
		return &control.Error{Code: control.CodeFailed, Message: "systemd does not run this machine", Hint: "have your service manager run: nigh agent"}
	case errors.Is(err, systemd.ErrUser):
		return &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf("there is no user %q with a home", user), Hint: "say whose service it is with --user"}
	case errors.Is(err, systemd.ErrPackaged):
		hint := "sudo /usr/bin/nigh service install starts its service; the package manager takes it away"
		return &control.Error{Code: control.CodeFailed, Message: "a package has installed nigh here, and its service", Hint: hint}
	}
	return &control.Error{Code: control.CodeFailed, Message: err.Error(), Hint: "see what is wrong with: nigh doctor"}
}
