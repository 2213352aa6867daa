package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) trustCommand() *cobra.Command {
	cmd := onlyCommands(&cobra.Command{
		Use:   "trust",
		Short: "List and change which devices are trusted",
		Long: `List and change which devices are trusted. Trust is bound to a device's key, never
to its name or address. For two devices to trust each other, each adds the other;
nigh pair does both at once.`,
		Example: `  nigh trust list
  nigh trust add 7Q4K-M2XD-... --name "Ana's laptop"
  nigh trust set "Ana's laptop" --auto-accept --quota 20GB
  nigh trust block kiosk-3`,
	})
	cmd.AddCommand(a.trustList(), a.trustAdd(), a.trustSet(),
		a.trustVerb("remove", "Forget a device: it is new again"),
		a.trustVerb("block", "Block a device: nothing is taken from it or sent to it"),
		a.trustExport(), a.trustImport())
	return cmd
}

func (a *app) trustList() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the trusted and blocked devices",
		Example: `  nigh trust list`,
		Args:    takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			devices, err := a.agent().Trust(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.document(devices)
			}
			if len(devices) == 0 {
				a.say("no device is trusted or blocked; pair with one: nigh pair <device>")
				return nil
			}
			var t table
			t.head("NAME", "TRUST", "ASKS", "ID", "LIMITS")
			for _, d := range devices {
				standing := word(d.Trust)
				if d.ByPolicy {
					standing.text += " by policy"
				}
				t.add(orDash(d.Name), standing, asks(d), d.ID, orDash(limits(d.Permissions)))
			}
			return t.write(a)
		},
	}
	a.jsonFlag(cmd, "a JSON array of devices")
	return cmd
}

// asks says what happens when the device offers files.
func asks(d control.Trusted) string {
	switch {
	case d.Trust == "blocked":
		return "-"
	case d.AutoAccept:
		return "no"
	default:
		return "yes"
	}
}

func (a *app) trustAdd() *cobra.Command {
	r := control.TrustRequest{Action: "add"}
	p := permissionFlags{}
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Trust the device with this ID",
		Long: `Trust the device with this ID, whole, as nigh id prints it there. Get it by a way
that nobody can tamper with: whoever holds the key to the ID is trusted.`,
		Example: `  nigh trust add 7Q4K-M2XD-... --name "Ana's laptop"`,
		Args:    takes(1, 1, "the ID of a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Device = args[0]
			if err := p.fill(cmd, &r); err != nil {
				return err
			}
			return a.changeTrust(cmd.Context(), r)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	a.jsonFlag(cmd, "the entry as one JSON object")
	cmd.Flags().StringVar(&r.Name, "name", "", "`NAME` to show instead of what the device calls itself")
	p.addAuto(cmd)
	return cmd
}

func (a *app) trustSet() *cobra.Command {
	r := control.TrustRequest{Action: "set"}
	p := permissionFlags{}
	cmd := &cobra.Command{
		Use:   "set <device>",
		Short: "Change what a trusted device may do, and its name",
		Long: `Change what a trusted device may do, and its name. What is not given stays as it is.
Sizes and rates are such as 500MB, 1.5GiB or none.`,
		Example: `  nigh trust set "Ana's laptop" --auto-accept --folder ~/from-ana
  nigh trust set kiosk-3 --max-size 1GB --quota 20GB --rate-down 2MB/s --shares none
  nigh trust set "Ana's laptop" --auto-accept=false --name Ana`,
		Args: takes(1, 1, "a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Device = args[0]
			if err := p.fill(cmd, &r); err != nil {
				return err
			}
			if !r.Permits() && r.Name == "" {
				return usage(cmd, "nothing to set: give --auto-accept, --folder, --max-size, --quota, --rate-up, --rate-down, --shares or --name")
			}
			return a.changeTrust(cmd.Context(), r)
		},
		ValidArgsFunction: a.completeDevice,
	}
	a.jsonFlag(cmd, "the entry as one JSON object")
	cmd.Flags().StringVar(&r.Name, "name", "", "`NAME` to show instead of what the device calls itself")
	p.add(cmd)
	return cmd
}

func (a *app) trustVerb(action, what string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     action + " <device>",
		Short:   what,
		Example: fmt.Sprintf("  nigh trust %s kiosk-3", action),
		Args:    takes(1, 1, "a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeTrust(cmd.Context(), control.TrustRequest{Action: action, Device: args[0]})
		},
		ValidArgsFunction: a.completeDevice,
	}
	a.jsonFlag(cmd, "the entry as one JSON object")
	return cmd
}

func (a *app) changeTrust(ctx context.Context, r control.TrustRequest) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	d, err := a.agent().ChangeTrust(ctx, r)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(d)
	}
	a.say("%s (%s) is %s", orDash(d.Name), d.Short, d.Trust)
	return nil
}
