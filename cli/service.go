package cli

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// Manual is the man page of this program, nigh(1).
//
//go:embed nigh.1
var Manual string

// Service is what the command line needs of the service manager. An [*control.Error] that its functions return reaches the person
// as it is.
type Service struct {
	Install func(ctx context.Context, user string) (said string, err error) // puts everything in place and starts the user's service
	Remove  func(ctx context.Context) (said string, err error)              // takes everything away
	Status  func(ctx context.Context, user string) (ServiceStatus, error)   // everybody may ask
}

// ServiceStatus is what `nigh service status` prints.
type ServiceStatus struct {
	User      string `json:"user"`
	Unit      string `json:"unit"` // nigh@USER.service
	Installed bool   `json:"installed"`
	File      string `json:"file,omitempty"`   // of the unit
	Enabled   bool   `json:"enabled"`          // starts at boot
	Active    string `json:"active"`           // systemd's word: active, activating, deactivating, inactive or failed
	Result    string `json:"result,omitempty"` // why it ended the last time: success, exit-code, watchdog, ...
	Since     string `json:"since,omitempty"`  // of what is active now, as systemd writes it
}

const (
	serviceWait       = 3 * time.Minute // programs are told, and the agent of a slow machine starts
	serviceStatusWait = 20 * time.Second
)

func (a *app) serviceCommand() *cobra.Command {
	cmd := onlyCommands(&cobra.Command{
		Use:   "service",
		Short: "Have nigh run all the time, as a service",
		Long: `Install nigh as a service of systemd, which runs all the time and has Wi-Fi Direct,
see how it does, or take it away again.`,
		Example: `  sudo nigh service install
  nigh service status`,
	})
	cmd.AddCommand(a.serviceInstall(), a.serviceRemove(), a.serviceStatus())
	return cmd
}

func (a *app) serviceInstall() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the service and start it, now and at each boot",
		Long: `Copy this program to /usr/local/bin and its system files to their places (unit,
D-Bus policy, and the files for network managers and firewalls, which open nothing),
then start the service of one user, now and at each boot. Doing it again updates
all of it. Where a package has installed nigh, only the service is started.`,
		Example: `  sudo nigh service install
  sudo nigh service install --user pi`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			who, err := serviceUser(cmd, name)
			if err != nil {
				return err
			}
			if a.env.Service.Install == nil {
				return errors.New("this program cannot install a service")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), serviceWait)
			defer cancel()
			said, err := a.env.Service.Install(ctx, who)
			if err != nil {
				return err
			}
			if a.verbose {
				a.say("%s", said)
			}
			return a.print("nigh runs as %s, now and at each boot. See what works here: nigh doctor", who)
		},
	}
	userFlag(cmd, &name)
	return cmd
}

func (a *app) serviceRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove",
		Short: "Stop the services of all users and take everything away",
		Long: `Stop nigh's services of all users, and take away the program in /usr/local and every
file that install has put in place. Keys, settings and received files stay.`,
		Example: "  sudo nigh service remove",
		Args:    takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.env.Service.Remove == nil {
				return errors.New("this program cannot remove a service")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), serviceWait)
			defer cancel()
			if _, err := a.env.Service.Remove(ctx); err != nil {
				return err
			}
			return a.print("Removed. Users' keys, settings and received files stay where they are.")
		},
	}
}

func (a *app) serviceStatus() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the service is installed, runs, and starts at boot",
		Long: `Say whether the service is installed, whether it runs and starts at boot. The exit
code is 6 when it does not run.`,
		Example: `  nigh service status
  nigh service status --user pi --json | jq -r .active`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			who, err := serviceUser(cmd, name)
			if err != nil {
				return err
			}
			if a.env.Service.Status == nil {
				return errors.New("this program knows no services")
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), serviceStatusWait)
			defer cancel()
			s, err := a.env.Service.Status(ctx, who)
			if err != nil {
				return err
			}
			if a.json {
				if err := a.document(s); err != nil {
					return err
				}
			}
			return a.serviceSays(s)
		},
	}
	userFlag(cmd, &name)
	a.jsonFlag(cmd, "a JSON object")
	return cmd
}

// serviceSays prints a status in words; it returns an error for a service that does not run.
func (a *app) serviceSays(s ServiceStatus) error {
	down := func(hint, format string, args ...any) error {
		return &control.Error{Code: control.CodeNoAgent, Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	switch {
	case !s.Installed:
		return down("install it: sudo "+ownPath()+" service install", "the service is not installed")
	case s.Active == "failed":
		return down("see why: journalctl -u "+s.Unit, "the service of %s failed (%s)", s.User, s.Result)
	case s.Active != "active":
		return down("start it: sudo systemctl enable --now "+s.Unit, "the service of %s does not run (%s)", s.User, s.Active)
	case a.json:
		return nil
	case !s.Enabled:
		return a.print("The service of %s runs since %s, but does not start at boot: sudo systemctl enable %s", s.User, s.Since, s.Unit)
	}
	return a.print("The service of %s runs since %s, and starts at each boot.", s.User, s.Since)
}

func userFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "user", "", "`USER` whose service it is (default: who you are, also with sudo)")
}

// serviceUser is whose service is meant.
func serviceUser(cmd *cobra.Command, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	if by := os.Getenv("SUDO_USER"); os.Geteuid() == 0 && by != "" {
		return by, nil
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		if os.Geteuid() == 0 && cmd.Name() == "install" {
			return "", usage(cmd, "whose service? Say it with --user, or run it with sudo as that user")
		}
		return u.Username, nil
	}
	return "", usage(cmd, "who you are is not known here: say it with --user")
}
