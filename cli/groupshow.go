package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"nigh/agent/control"
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
			who := access{g.Ifname, g.SSID, g.Passphrase, wifiURI(g.SSID, g.Passphrase)}
			if a.json {
				return a.document(who)
			}
			code, err := qr.Encode(who.URI, qr.L)
			if err != nil {
				return fmt.Errorf("make the code: %w", err)
			}
			if _, err := io.WriteString(a.env.Stdout, halfBlocks(code.Size, code.Black, a.colors(a.env.Stdout), invert)); err != nil {
				return err
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

// wifiURI is the text of a code that joins a WPA network, as phones have read it
// since ZXing: each of \ ; , : " in a value has a backslash before it.
func wifiURI(ssid, passphrase string) string {
	escape := strings.NewReplacer(`\`, `\\`, `;`, `\;`, `,`, `\,`, `:`, `\:`, `"`, `\"`)
	return "WIFI:T:WPA;S:" + escape.Replace(ssid) + ";P:" + escape.Replace(passphrase) + ";;"
}

// quiet is the light border that readers need around a code (ISO/IEC 18004 asks
// for four modules).
const quiet = 4

// halfBlocks draws a code with two modules in each character cell. With colours it
// looks the same on every terminal; without them light modules are drawn, which
// is right where the background is dark, and wrong with invert.
func halfBlocks(size int, black func(x, y int) bool, colors, invert bool) string {
	var b strings.Builder
	invert = invert && !colors
	drawn := func(x, y int) bool {
		light := x < 0 || y < 0 || x >= size || y >= size || !black(x, y)
		return light != invert && y < size+quiet // the last row of characters may be half used
	}
	for y := -quiet; y < size+quiet; y += 2 {
		if colors {
			b.WriteString("\x1b[97;40m") // bright white on black
		}
		for x := -quiet; x < size+quiet; x++ {
			switch up, down := drawn(x, y), drawn(x, y+1); {
			case up && down:
				b.WriteString("█")
			case up:
				b.WriteString("▀")
			case down:
				b.WriteString("▄")
			default:
				b.WriteByte(' ')
			}
		}
		if colors {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
