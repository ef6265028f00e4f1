package conf

import (
	"testing"

	"github.com/ikegod/ikegod/ike/policy"
)

// TestShunts: a policy without IKE needs selectors, and nothing that is about IKE.
func TestShunts(t *testing.T) {
	for _, tc := range []struct {
		text  string
		want  policy.Shunt
		wrong string
	}{
		{" left=192.1.2.45\n right=192.1.2.23\n type=passthrough\n", policy.ShuntPass, ""},
		{" left=192.1.2.45\n right=192.1.2.23\n type=pass\n authby=never\n", policy.ShuntPass, ""},
		{" left=192.1.2.45\n right=192.1.2.23\n type=drop\n authby=rsasig\n leftprotoport=tcp/22\n", policy.ShuntDrop, ""},
		{" left=192.1.2.45\n right=%any\n type=reject\n rightsubnet=192.0.2.0/24\n", policy.ShuntReject, ""},
		{" left=192.1.2.45\n right=gw.example\n type=drop\n rightsubnets=192.0.2.0/24,10.0.0.0/8\n", policy.ShuntDrop, ""},
		{" left=192.1.2.45\n right=%any\n type=drop\n", 0, "type=drop has no IKE that would tell which address %any is, and rightsubnet= is not written"},
		{" left=192.1.2.45\n right=gw.example\n type=reject\n", 0, "which address gw.example is"},
		{" left=gw.example\n leftsubnet=192.0.1.0/24\n right=%any\n rightsubnet=192.0.2.0/24\n type=drop\n", 0, "looks up no names"},
		{" left=192.1.2.45\n right=192.1.2.23\n type=tunnel\n authby=never\n", 0, "never is not supported"},
	} {
		set, ds := compileText("conn a\n auto=ondemand\n" + tc.text)
		switch {
		case tc.wrong != "":
			if len(set.Connections) != 0 || len(find(ds, tc.wrong)) != 1 {
				t.Errorf("%s: %v", tc.text, ds)
			}
		case len(set.Connections) != 1 || len(ds.AtLeast(Note)) != 0:
			t.Errorf("%s: %v", tc.text, ds)
		case set.Connections[0].Shunt != tc.want || !set.Connections[0].IsShunt():
			t.Errorf("%s: %v", tc.text, set.Connections[0].Shunt)
		case set.Connections[0].Right.Host.Kind == policy.HostName:
			t.Errorf("%s: a name is left to look up", tc.text)
		}
	}
	tunnel, shunt := mustOne(t, ""), mustOne(t, "\ttype=drop\n")
	if tunnel.Hash() == shunt.Hash() || tunnel.IsShunt() {
		t.Error("a reload would not see the change")
	}
}
