package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
	"nigh/tui/wificode"
)

func (a *app) groupShow() *cobra.Command {
	var passphrase bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the groups of this device",
		Example: `  nigh group show
  nigh group show --passphrase         so that a phone can join as a plain Wi-Fi device
  nigh group qr                        the same as a code for its camera`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			groups, err := a.agent().Groups(ctx)
			if err != nil {
				return err
			}
			for i := range groups {
				if !passphrase {
					groups[i].Passphrase = ""
				}
			}
			if a.json {
				return a.document(groups)
			}
			if len(groups) == 0 {
				a.say("this device is in no group")
				return nil
			}
			var t table
			for _, g := range groups {
				fields := []any{cell{g.Ifname, strong}, groupText(g)}
				if g.Passphrase != "" {
					fields = append(fields, "passphrase "+g.Passphrase)
				}
				t.add(fields...)
			}
			if err := t.write(a); err != nil {
				return err
			}
			for _, g := range groups {
				for _, s := range g.Stations {
					if err := a.print("  %s", stationText(s)); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
	a.jsonFlag(cmd, "a JSON array of groups")
	cmd.Flags().BoolVar(&passphrase, "passphrase", false, "with the passphrase of groups that this device owns")
	return cmd
}

// stationText is one device that is connected to a group of ours.
func stationText(s control.Station) string {
	text := s.Address
	if s.Name != "" {
		text += "  " + s.Name
	}
	if s.IPv4 != "" {
		text += "  " + s.IPv4
	}
	return text
}

// access is what a plain Wi-Fi device needs to join a group.
type access struct {
	Ifname     string `json:"ifname"`
	SSID       string `json:"ssid"`
	Passphrase string `json:"passphrase"`
	URI        string `json:"uri"`
}

func (a *app) groupQR() *cobra.Command {
	var invert bool
	cmd := &cobra.Command{
		Use:   "qr [IF]",
		Short: "Show a code that lets a phone join a group of this device",
		Long: `Show the name and passphrase of a group that this device owns, and as a QR code
that a phone's camera reads to join as a plain Wi-Fi device. Who sees it can join
until the group ends.`,
		Example: `  nigh group qr
  nigh group qr p2p-wlan0-0
  nigh group qr --json`,
		Args: takes(0, 1, "one interface"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWait)
			defer cancel()
			groups, err := a.agent().Groups(ctx)
			if err != nil {
				return err
			}
			g, err := sharedGroup(groups, append(args, "")[0])
			if err != nil {
				return err
			}
			who := access{g.Ifname, g.SSID, g.Passphrase, wificode.URI(g.SSID, g.Passphrase)}
			if a.json {
				return a.document(who)
			}
			colors := a.colors(a.env.Stdout)
			rows, err := wificode.Rows(who.URI, invert && !colors)
			if err != nil {
				return fmt.Errorf("make the code: %w", err)
			}
			for _, row := range rows {
				if colors {
					row = "\x1b[97;40m" + row + "\x1b[0m" // bright white on black, on every terminal
				}
				if _, err := io.WriteString(a.env.Stdout, row+"\n"); err != nil {
					return err
				}
			}
			return a.print("Wi-Fi network  %s\npassphrase     %s", who.SSID, who.Passphrase)
		},
		ValidArgsFunction: a.completeGroup,
	}
	a.jsonFlag(cmd, "name, passphrase and the code's text as one JSON object")
	cmd.Flags().BoolVar(&invert, "invert", false, "swap dark and light, for a light terminal without colours")
	return cmd
}

// sharedGroup is the group of this device that others can be let into: the one on
// an interface, "" meaning the only one that it owns.
func sharedGroup(groups []control.Group, ifname string) (control.Group, error) {
	var owned []control.Group
	var names []string
	for _, g := range groups {
		if ifname != "" && g.Ifname != ifname {
			continue
		}
		if g.Passphrase != "" {
			owned = append(owned, g)
			names = append(names, g.Ifname)
		} else if ifname != "" || len(groups) == 1 {
			return g, &control.Error{Code: control.CodeNotFound, Message: "the passphrase of " + g.SSID + " is known to its group owner only",
				Hint: "run nigh group qr there, or end this group and make one here: nigh group create"}
		}
	}
	switch len(owned) {
	case 0:
		return control.Group{}, &control.Error{Code: control.CodeNotFound, Message: "this device owns no such group", Hint: "make one: nigh group create"}
	case 1:
		return owned[0], nil
	}
	return control.Group{}, &control.Error{Code: control.CodeAmbiguous, Message: "this device owns several groups: " + strings.Join(names, ", "),
		Hint: "name one: nigh group qr " + names[0]}
}
