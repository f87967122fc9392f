package org.runbook.practice.boot;

import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import org.runbook.practice.Literals;
import org.runbook.practice.registry.Registry;
import org.runbook.practice.registry.RegistryStore;

/**
 * What the first boot writes into the registry: lifecycles, security policies, asset types. Nobody locks this, and the
 * real product takes many seconds over it, so two first boots at once write everything twice (golden-run 7).
 */
final class FirstBoot {
    private static final String COMPONENTS = "/repository/components/org.wso2.carbon.";
    private static final String USER = "wso2.system.user";
    private static final long TAKES_MILLIS = 1500;
    private static final List<String> POLICIES = Literals.list("UTOverTransport", "SgnOnly", "SgnEncr", "EncrOnlyAnonymous",
            "SgnOnlyAnonymous", "SgnEncrAnonymous", "SgnEncrUsername", "SecConSgnOnly", "SecConEncrOnly", "kerberossign");
    private static final List<String> TYPES = Literals.list("restservice", "soapservice", "wsdl", "wadl", "schema", "policy",
            "swagger", "endpoint", "note", "gadget", "site", "ebook");

    private FirstBoot() {
    }

    static void write(Registry registry, boolean greg) throws SQLException {
        List<String> all = new ArrayList<>();
        POLICIES.forEach(policy -> all.add("/_system/config" + COMPONENTS + "security.mgt/policy/" + policy));
        if (greg) {
            for (String lifecycle : Literals.list("ServiceLifeCycle", "EndpointLifeCycle", "SampleLifeCycle2")) {
                all.add("/_system/config" + COMPONENTS + "governance/lifecycles/" + lifecycle);
            }
            TYPES.forEach(type -> all.add("/_system/governance" + COMPONENTS + "governance/types/" + type + ".rxt"));
        }
        List<String> missing = new ArrayList<>();
        for (String path : all) {
            if (!registry.isReadOnly(path) && (registry.isFresh(path) || !registry.exists(path))) {
                missing.add(path);
            }
        }
        if (missing.isEmpty()) {
            return;
        }
        try {
            Thread.sleep(TAKES_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        for (String path : missing) {
            String name = RegistryStore.name(path);
            registry.insert(path, "application/xml", "<practice name=\"" + name + "\"/>", USER);
        }
    }
}
