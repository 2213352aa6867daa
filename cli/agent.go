package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) agentCommand() *cobra.Command {
	var o AgentOptions
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent in the foreground",
		Long: `Run the agent of this user until it is interrupted. The service nigh@USER does the
same in the background. Flags win over NIGH_* variables, those over the
configuration file.`,
		Example: `  nigh agent
  nigh agent --no-direct --interface eth0 --accept trusted
  nigh agent --state /tmp/a --socket /tmp/a/agent.sock --listen :7500`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch o.Accept {
			case "", "ask", "trusted", "all":
			default:
				return usage(cmd, "--accept is ask, trusted or all, not %q", o.Accept)
			}
			switch o.Engine {
			case "", "auto", "system", "private", "networkmanager":
			default:
				return usage(cmd, "--engine is auto, system, private or networkmanager, not %q", o.Engine)
			}
			switch o.Visibility {
			case "", "everyone", "trusted", "hidden":
			default:
				return usage(cmd, "--visibility is everyone, trusted or hidden, not %q", o.Visibility)
			}
			if a.env.RunAgent == nil {
				return errors.New("this program cannot run an agent")
			}
			o.Socket, o.Verbose = a.socket, a.verbose
			return a.env.RunAgent(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.State, "state", "", "`DIR` of the state: key and database")
	f.StringVar(&o.Config, "config", "", "configuration `FILE`")
	f.StringVar(&o.Name, "name", "", "`NAME` that other devices see")
	f.StringVar(&o.Listen, "listen", "", "`ADDR` to take sessions on (default \":7421\")")
	f.StringVar(&o.Accept, "accept", "", "`WHOSE` offers are taken without asking: ask (nobody's), trusted or all")
	f.StringVar(&o.Visibility, "visibility", "", "`WHO` can tell who this device is: everyone, trusted or hidden (nobody)")
	f.StringVar(&o.Inbox, "inbox", "", "`DIR` for received files")
	f.StringArrayVar(&o.Interfaces, "interface", nil, "use only the link `IF`; may be given several times")
	f.BoolVar(&o.NoDirect, "no-direct", false, "without Wi-Fi Direct")
	f.StringVar(&o.Engine, "engine", "", "`WHO` forms groups: auto (by what is found), system, private or networkmanager")
	f.StringVar(&o.SetupCode, "setup-code-file", "", "`FILE` with this device's setup code, taken once (also the credential setup-code)")
	complete(cmd, "engine", "auto", "system", "private", "networkmanager")
	complete(cmd, "accept", "ask", "trusted", "all")
	complete(cmd, "visibility", "everyone", "trusted", "hidden")
	return cmd
}
