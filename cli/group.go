package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) groupCommand() *cobra.Command {
	cmd := onlyCommands(&cobra.Command{
		Use:   "group",
		Short: "Make, join, leave and show Wi-Fi Direct groups",
		Example: `  nigh group join "Ana's laptop"
  nigh group create --band 5
  nigh group show --passphrase
  nigh group qr
  nigh group leave`,
	})
	cmd.AddCommand(a.groupCreate(), a.groupJoin(), a.groupInvite(), a.groupLeave(), a.groupShow(), a.groupQR())
	return cmd
}

func (a *app) groupCreate() *cobra.Command {
	r := control.GroupRequest{Action: "create"}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a group with this device as group owner",
		Example: `  nigh group create
  nigh group create --frequency 5180 --persistent`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Band != "" && r.Band != "2" && r.Band != "5" {
				return usage(cmd, "--band is 2 or 5, not %q", r.Band)
			}
			if r.Band != "" && r.Frequency != 0 {
				return usage(cmd, "--band and --frequency exclude each other")
			}
			return a.makeGroup(cmd.Context(), r)
		},
	}
	a.jsonFlag(cmd, "the group as one JSON object")
	f := cmd.Flags()
	f.IntVar(&r.Frequency, "frequency", 0, "operating channel as its `MHZ`, such as 2437")
	f.StringVar(&r.Band, "band", "", "`BAND` to choose a channel in: 2 or 5 (GHz)")
	f.BoolVar(&r.Persistent, "persistent", false, "remember the group, so that members come back without asking")
	complete(cmd, "band", "2", "5")
	return cmd
}

func (a *app) groupJoin() *cobra.Command {
	r := control.GroupRequest{Action: "join"}
	var intent int
	cmd := &cobra.Command{
		Use:   "join <device>",
		Short: "Form a group with a device, or join its group",
		Long: `Form a Wi-Fi Direct group with a device, or join the group it is in. The person at
the other device is asked unless the two trust each other. Without trust the way
in is --method: pbc (both say yes), show_pin (this device shows a PIN, to be typed
there) or enter_pin (the other shows one; it is asked for here, or read from
standard input).`,
		Example: `  nigh group join "Ana's laptop"
  nigh group join 02:1a:7d:da:71:12 --method show_pin`,
		Args: takes(1, 1, "a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Device = args[0]
			if cmd.Flags().Changed("intent") {
				if intent < 0 || intent > 15 {
					return usage(cmd, "--intent is 0 to 15, not %d", intent)
				}
				r.Intent = &intent
			}
			switch r.Method {
			case "", "pbc", "show_pin":
			case "enter_pin":
				pin, err := a.askPIN(cmd)
				if err != nil {
					return err
				}
				r.PIN = pin
			default:
				return usage(cmd, "--method is pbc, show_pin or enter_pin, not %q", r.Method)
			}
			return a.makeGroup(cmd.Context(), r)
		},
		ValidArgsFunction: a.completeDevice,
	}
	a.jsonFlag(cmd, "the group as one JSON object")
	f := cmd.Flags()
	f.StringVar(&r.Method, "method", "", "WPS `METHOD`: pbc, show_pin or enter_pin (default pbc)")
	f.IntVar(&intent, "intent", 7, "GO intent `N`, 0 to 15: 15 wants to be group owner")
	f.IntVar(&r.Frequency, "frequency", 0, "operating channel as its `MHZ`")
	f.BoolVar(&r.Persistent, "persistent", false, "remember the group")
	complete(cmd, "method", "pbc", "show_pin", "enter_pin")
	return cmd
}

// askPIN reads the PIN of the other device: never from the arguments, which every
// user of this machine can read.
func (a *app) askPIN(cmd *cobra.Command) (string, error) {
	if isTerminal(a.env.Stdin) {
		fmt.Fprint(a.env.Stderr, "PIN that the other device shows: ")
	}
	pin, err := readLine(a.env.Stdin)
	pin = strings.NewReplacer(" ", "", "-", "").Replace(pin)
	if err != nil || len(pin) != 4 && len(pin) != 8 || strings.Trim(pin, "0123456789") != "" {
		return "", usage(cmd, "a PIN has 4 or 8 digits; it is read from standard input")
	}
	return pin, nil
}

// readLine reads up to a line break, byte by byte so that nothing behind it is
// taken away from whoever reads next, and at most 256 bytes.
func readLine(r io.Reader) (string, error) {
	var line []byte
	buf := make([]byte, 1)
	for len(line) < 256 {
		n, err := r.Read(buf)
		if n == 1 {
			if buf[0] == '\n' {
				return strings.TrimSuffix(string(line), "\r"), nil
			}
			line = append(line, buf[0])
		}
		if err == io.EOF && len(line) > 0 {
			return string(line), nil
		}
		if err != nil {
			return "", err
		}
	}
	return string(line), nil
}

func (a *app) makeGroup(ctx context.Context, r control.GroupRequest) error {
	var g control.Group
	err := a.withSteps(ctx, func(ctx context.Context) (err error) {
		g, err = a.agent().Group(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	g.Passphrase = "" // `nigh group show --passphrase` is the one place that prints it
	if a.json {
		return a.document(g)
	}
	return a.print("%s  %s", g.Ifname, groupText(g))
}

// withSteps runs fn, a slow call of the agent, and tells people meanwhile what the
// agent is doing.
func (a *app) withSteps(ctx context.Context, fn func(context.Context) error) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := a.agent().Watch(watching)
	if errors.Is(err, &control.Error{Code: control.CodeNoAgent}) || ctx.Err() != nil {
		return err
	}
	// Any other error (too many watchers) costs the steps only.
	result := make(chan error, 1)
	go func() { result <- fn(ctx) }()
	for {
		select {
		case err := <-result:
			return err
		case e, ok := <-events:
			if !ok {
				events = nil // the call itself tells what went wrong
			}
			if e.Type == "step" && e.Step != nil {
				a.sayStep(*e.Step)
			}
		}
	}
}

// sayStep tells of one step, where somebody watches. A PIN is no talk: without it
// the person cannot go on.
func (a *app) sayStep(s control.Step) {
	if s.Name == "pin" {
		fmt.Fprintf(a.env.Stderr, "PIN %s: type it on the other device\n", show(s.Text))
		return
	}
	if !a.verbose && !isTerminal(a.env.Stderr) {
		return
	}
	text := s.Text
	if text != "" {
		text = ": " + text
	}
	a.say("%6.1f s  %s %s%s", s.After, s.Name, s.State, text)
}

func groupText(g control.Group) string {
	parts := []string{g.Role, g.SSID}
	if g.Frequency != 0 {
		parts = append(parts, fmt.Sprintf("%d MHz", g.Frequency))
	}
	if g.Role == "GO" {
		parts = append(parts, count(g.Clients, "client", "clients"))
	}
	for _, part := range []string{g.Address, g.LinkLocal} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if g.Persistent {
		parts = append(parts, "persistent")
	}
	if g.Reconnecting {
		parts = append(parts, "reconnecting")
	}
	return strings.Join(parts, "  ")
}

func (a *app) groupInvite() *cobra.Command {
	r := control.GroupRequest{Action: "invite"}
	cmd := &cobra.Command{
		Use:   "invite <device>",
		Short: "Invite a device into a group of this device",
		Example: `  nigh group invite "Ana's laptop"
  nigh group invite kitchen-pi --group p2p-wlan0-0`,
		Args: takes(1, 1, "a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Device = args[0]
			return a.makeGroup(cmd.Context(), r)
		},
		ValidArgsFunction: a.completeDevice,
	}
	a.jsonFlag(cmd, "the group as one JSON object")
	cmd.Flags().StringVar(&r.Ifname, "group", "", "interface `IF` of the group (default the only one)")
	return cmd
}

func (a *app) groupLeave() *cobra.Command {
	return &cobra.Command{
		Use:   "leave [IF]",
		Short: "Leave a group, or end one that this device owns",
		Long: `Leave a Wi-Fi Direct group, end one that this device owns, or give up the one that
is just being formed. It answers within ten seconds.`,
		Example: `  nigh group leave
  nigh group leave p2p-wlan0-0`,
		Args: takes(0, 1, "one interface"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			ifname := ""
			if len(args) == 1 {
				ifname = args[0]
			} else {
				groups, err := a.agent().Groups(ctx)
				if err != nil {
					return err
				}
				switch len(groups) {
				case 0:
					if err := a.agent().LeaveGroup(ctx, control.AnyGroup); err != nil {
						return err
					}
					a.say("gave up the group that was being formed")
					return nil
				case 1:
					ifname = groups[0].Ifname
				default:
					var names []string
					for _, g := range groups {
						names = append(names, g.Ifname)
					}
					return &control.Error{Code: control.CodeAmbiguous, Message: "this device is in several groups: " + strings.Join(names, ", "),
						Hint: "name one: nigh group leave " + names[0]}
				}
			}
			if err := a.agent().LeaveGroup(ctx, ifname); err != nil {
				return err
			}
			a.say("left the group on %s", ifname)
			return nil
		},
		ValidArgsFunction: a.completeGroup,
	}
}
