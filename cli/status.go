package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"nigh/agent/control"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the agent, its radio, groups and links",
		Example: `  nigh status
  nigh status --json | jq -r .radio.state`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
	a.jsonFlag(cmd, "one JSON object")
	return cmd
}

func (a *app) status(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	st, err := a.agent().Status(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.document(st)
	}
	t := table{whole: true}
	t.add("device", cell{st.Name, strong}, st.Short)
	t.add("agent", word("running"), fmt.Sprintf("%s, pid %d, up %s, port %d, version %s",
		st.Agent.Mode, st.Agent.PID, span(float64(st.Agent.Uptime)), st.Agent.Port, st.Version))
	if v := st.Agent.Visibility; v != "" {
		t.add("visible", v, map[string]string{
			"everyone": "name, ID and key are announced", "trusted": "only trusted devices recognise this one", "hidden": "not announced",
		}[v])
	}
	t.add("inbox", "accept "+st.Agent.Accept, st.Agent.Inbox+", "+size(st.Agent.Free)+" free")
	switch st.Agent.Sandbox.State {
	case "landlock":
		t.add("sandbox", word("on"), "Landlock: the agent opens its own files, and what you send, share or receive into")
	case "off":
		t.add("sandbox", cell{"off", bad}, "the agent may open every file that you may: "+st.Agent.Sandbox.Why)
	}
	radio := st.Radio.Ifname
	if st.Radio.Engine != "" {
		radio += ", engine " + st.Radio.Engine
	}
	if st.Radio.IntentWhy != "" {
		radio += fmt.Sprintf(", GO intent %d (%s)", st.Radio.Intent, st.Radio.IntentWhy)
	}
	if st.Radio.Finding {
		radio += ", looking for devices"
	}
	if st.Radio.Hint != "" {
		radio = strings.TrimPrefix(radio+": "+st.Radio.Hint, ": ")
	}
	t.add("radio", word(st.Radio.State), radio)
	if st.Radio.Why != "" {
		t.add("engine", "", st.Radio.Why)
	}
	for _, g := range st.Groups {
		t.add("group", g.Ifname, groupText(g))
	}
	for _, l := range st.Links {
		use := cell{"used", good}
		text := l.Kind
		switch {
		case !l.Up:
			use = cell{"down", faint}
		case !l.Usable:
			use = cell{"not used", faint}
			text += ": " + l.Why
		}
		line := strings.Join(append([]string{l.Ifname, text}, l.Addresses...), "  ")
		if why := inboundText(l.Inbound); why != "" && l.Usable {
			line += "  " + why
		}
		t.add("link", use, line)
	}
	t.add("limits", "", fmt.Sprintf("%s at once, %s, %s kept free",
		count(st.Limits.Transfers, "transfer", "transfers"), count(st.Limits.Peers, "device", "devices"), size(st.Limits.MinFree)))
	for _, n := range st.Notices {
		t.add("notice", "", n)
	}
	return t.write(a)
}

// inboundText says what keeps other devices from connecting over a link, if
// anything does.
func inboundText(outcome string) string {
	switch outcome {
	case "refused":
		return "connections from outside are refused"
	case "rejected":
		return "connections from outside are rejected, as a firewall does"
	case "silent":
		return "connections from outside get no answer, as behind a firewall"
	}
	return ""
}

func (a *app) idCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "id",
		Short: "Print this device's ID",
		Long: `Print the ID of this device, whole, as nigh trust add on another device takes it.
It is proved by the device's key in every session; the name is not.`,
		Example: `  nigh id
  nigh trust add "$(ssh kitchen-pi nigh id)" --name kitchen-pi`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, err := a.identity(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.document(id)
			}
			return a.print("%s", id.ID)
		},
	}
	a.jsonFlag(cmd, "one JSON object: id, short, name")
	return cmd
}

// identity asks the agent, and where none runs reads the state.
func (a *app) identity(ctx context.Context) (Identity, error) {
	asking, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	st, err := a.agent().Status(asking)
	if errors.Is(err, &control.Error{Code: control.CodeNoAgent}) && a.env.Identity != nil {
		return a.env.Identity(ctx)
	}
	if err != nil {
		return Identity{}, err
	}
	return Identity{ID: st.ID, Short: st.Short, Name: st.Name}, nil
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: `  nigh version`,
		Args:    takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version  string `json:"version"`
				Revision string `json:"revision,omitempty"`
				API      int    `json:"api"`
				Go       string `json:"go"`
				OS       string `json:"os"`
				Arch     string `json:"arch"`
			}{a.env.Version, "", control.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, setting := range info.Settings {
					if setting.Key == "vcs.revision" {
						v.Revision = setting.Value
					}
				}
			}
			if a.json {
				return a.document(v)
			}
			return a.print("nigh %s (%s %s/%s)", v.Version, v.Go, v.OS, v.Arch)
		},
	}
	a.jsonFlag(cmd, "one JSON object")
	return cmd
}
