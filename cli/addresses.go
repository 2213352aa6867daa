package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

// addressWait bounds a call that has the agent resolve and greet an address.
const addressWait = 60 * time.Second

func (a *app) peersAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add ADDRESS",
		Short: "Keep the address of a device",
		Long: `Keep the address of a device, HOST or HOST:PORT, for networks that let no multicast
through. Whoever answers there now is the device that is meant. While it is trusted,
the address is kept when the agent ends. nigh send --to ADDRESS does the same.`,
		Example: `  nigh peers add 10.0.0.2
  nigh peers add [fe80::1%eth0]:7421
  nigh peers add nas.lan:7422`,
		Args: takes(1, 1, "an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeAddress(cmd.Context(), control.AddressRequest{Action: "add", Address: args[0]})
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	a.jsonFlag(cmd, "a JSON array of addresses")
	return cmd
}

func (a *app) peersRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove <address or device>",
		Short: "Forget an address, or all of a device",
		Example: `  nigh peers remove 10.0.0.2
  nigh peers remove "Ana's laptop"`,
		Args: takes(1, 1, "an address or a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeAddress(cmd.Context(), control.AddressRequest{Action: "remove", Address: args[0]})
		},
		ValidArgsFunction: a.completeDevice,
	}
	a.jsonFlag(cmd, "a JSON array of the addresses that were forgotten")
	return cmd
}

func (a *app) peersAddresses() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "addresses",
		Short:   "List the addresses that were typed",
		Example: `  nigh peers addresses`,
		Args:    takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			all, err := a.agent().Addresses(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.document(all)
			}
			if len(all) == 0 {
				a.say("no address was typed; nigh peers add takes one")
				return nil
			}
			var t table
			t.head("ADDRESS", "NAME", "ID", "KEPT", "ANSWERS")
			for _, v := range all {
				t.add(v.Address, orDash(v.Name), orDash(v.Short), yesNo(v.Remembered), yesNo(v.Answers))
			}
			return t.write(a)
		},
	}
	a.jsonFlag(cmd, "a JSON array of addresses")
	return cmd
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func (a *app) changeAddress(ctx context.Context, r control.AddressRequest) error {
	ctx, cancel := context.WithTimeout(ctx, addressWait)
	defer cancel()
	all, err := a.agent().ChangeAddress(ctx, r)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(all)
	}
	for _, v := range all {
		switch {
		case r.Action == "remove":
			a.say("%s (%s) is no longer looked for at %s", v.Name, v.Short, v.Address)
		case v.Remembered:
			a.say("%s (%s) answers at %s", v.Name, v.Short, v.Address)
		default:
			a.say("%s (%s) answers at %s; the address is kept until the agent ends, or for good once the device is trusted", v.Name, v.Short, v.Address)
		}
	}
	return nil
}
