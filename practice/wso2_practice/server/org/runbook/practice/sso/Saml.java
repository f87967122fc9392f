package org.runbook.practice.sso;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.cert.X509Certificate;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Base64;
import java.util.List;
import java.util.UUID;
import java.util.zip.Inflater;
import java.util.zip.InflaterInputStream;
import javax.xml.crypto.MarshalException;
import javax.xml.crypto.dsig.CanonicalizationMethod;
import javax.xml.crypto.dsig.DigestMethod;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.Transform;
import javax.xml.crypto.dsig.XMLSignature;
import javax.xml.crypto.dsig.XMLSignatureException;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.dom.DOMSignContext;
import javax.xml.crypto.dsig.dom.DOMValidateContext;
import javax.xml.crypto.dsig.keyinfo.KeyInfoFactory;
import javax.xml.crypto.dsig.spec.C14NMethodParameterSpec;
import javax.xml.crypto.dsig.spec.TransformParameterSpec;
import org.runbook.practice.Literals;
import org.runbook.practice.Streams;
import org.runbook.practice.conf.Keys;
import org.runbook.practice.conf.Xml;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;
import org.xml.sax.SAXException;

/** SAML 2.0 messages: built as DOM, signed and verified with the JDK's XML signatures. */
public final class Saml {
    private static final String PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol";
    private static final String ASSERTION = "urn:oasis:names:tc:SAML:2.0:assertion";
    private static final String SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success";
    private static final String RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
    private static final int VALID_MINUTES = 5;

    /** What a service provider learns from a verified response. */
    public static final class Login {
        private final String user;
        private final String sessionIndex;

        public Login(String user, String sessionIndex) {
            this.user = user;
            this.sessionIndex = sessionIndex;
        }

        public String user() {
            return user;
        }

        public String sessionIndex() {
            return sessionIndex;
        }
    }

    private Saml() {
    }

    /** An AuthnRequest or LogoutRequest that says nothing but who asks: no ACS URL, as on the real product. */
    public static String request(String kind, String issuer, String destination, String user, String sessionIndex) {
        Document document = Xml.empty();
        Element request = message(document, kind, destination);
        add(request, ASSERTION, "saml:Issuer").setTextContent(issuer);
        if (kind.equals("LogoutRequest")) {
            add(request, ASSERTION, "saml:NameID").setTextContent(user);
            add(request, PROTOCOL, "samlp:SessionIndex").setTextContent(sessionIndex);
        } else {
            add(request, PROTOCOL, "samlp:NameIDPolicy").setAttribute("AllowCreate", "true");
        }
        return encode(request);
    }

    /** The signed answer to an AuthnRequest: subject, audience, recipient and five minutes of validity. */
    static String response(Keys keys, String entity, String requestId, String issuer, String acs, String user,
            String sessionIndex) throws GeneralSecurityException {
        Document document = Xml.empty();
        Element response = message(document, "Response", acs);
        answers(response, requestId);
        add(response, ASSERTION, "saml:Issuer").setTextContent(entity);
        add(add(response, PROTOCOL, "samlp:Status"), PROTOCOL, "samlp:StatusCode").setAttribute("Value", SUCCESS);
        String until = time(VALID_MINUTES);
        Element assertion = add(response, ASSERTION, "saml:Assertion");
        assertion.setAttribute("ID", id());
        assertion.setAttribute("Version", "2.0");
        assertion.setAttribute("IssueInstant", time(0));
        add(assertion, ASSERTION, "saml:Issuer").setTextContent(entity);
        Element subject = add(assertion, ASSERTION, "saml:Subject");
        add(subject, ASSERTION, "saml:NameID").setTextContent(user);
        Element confirmation = add(subject, ASSERTION, "saml:SubjectConfirmation");
        confirmation.setAttribute("Method", "urn:oasis:names:tc:SAML:2.0:cm:bearer");
        Element data = add(confirmation, ASSERTION, "saml:SubjectConfirmationData");
        answers(data, requestId);
        data.setAttribute("NotOnOrAfter", until);
        data.setAttribute("Recipient", acs);
        Element conditions = add(assertion, ASSERTION, "saml:Conditions");
        conditions.setAttribute("NotBefore", time(0));
        conditions.setAttribute("NotOnOrAfter", until);
        add(add(conditions, ASSERTION, "saml:AudienceRestriction"), ASSERTION, "saml:Audience").setTextContent(issuer);
        Element authentication = add(assertion, ASSERTION, "saml:AuthnStatement");
        authentication.setAttribute("AuthnInstant", time(0));
        authentication.setAttribute("SessionIndex", sessionIndex);
        add(add(authentication, ASSERTION, "saml:AuthnContext"), ASSERTION, "saml:AuthnContextClassRef")
                .setTextContent("urn:oasis:names:tc:SAML:2.0:ac:classes:Password");
        return encode(sign(keys, response));
    }

    /** Names the request that is answered; what the provider began by itself answers none. */
    private static void answers(Element part, String requestId) {
        if (requestId != null) {
            part.setAttribute("InResponseTo", requestId);
        }
    }

    static String logoutResponse(Keys keys, String entity, String requestId, String acs)
            throws GeneralSecurityException {
        Document document = Xml.empty();
        Element response = message(document, "LogoutResponse", acs);
        response.setAttribute("InResponseTo", requestId);
        add(response, ASSERTION, "saml:Issuer").setTextContent(entity);
        add(add(response, PROTOCOL, "samlp:Status"), PROTOCOL, "samlp:StatusCode").setAttribute("Value", SUCCESS);
        return encode(sign(keys, response));
    }

    /** Signs a copy read back from text: the signature covers the namespace declarations, which only text has. */
    private static Element sign(Keys keys, Element unsigned) throws GeneralSecurityException {
        try {
            Element message = Xml.parse(Xml.write(unsigned)).getDocumentElement();
            XMLSignatureFactory factory = XMLSignatureFactory.getInstance("DOM");
            List<Transform> transforms = Literals.list(
                    factory.newTransform(Transform.ENVELOPED, (TransformParameterSpec) null),
                    factory.newTransform(CanonicalizationMethod.EXCLUSIVE, (TransformParameterSpec) null));
            Reference reference = factory.newReference("#" + message.getAttribute("ID"),
                    factory.newDigestMethod(DigestMethod.SHA256, null), transforms, null, null);
            KeyInfoFactory info = factory.getKeyInfoFactory();
            message.setIdAttribute("ID", true);
            DOMSignContext context = new DOMSignContext(keys.key, message, message.getFirstChild().getNextSibling());
            context.setDefaultNamespacePrefix("ds");
            factory.newXMLSignature(factory.newSignedInfo(
                    factory.newCanonicalizationMethod(CanonicalizationMethod.EXCLUSIVE, (C14NMethodParameterSpec) null),
                    factory.newSignatureMethod(RSA_SHA256, null), Literals.list(reference)),
                    info.newKeyInfo(Literals.list(info.newX509Data(Literals.list(keys.certificate))))).sign(context);
            return message;
        } catch (IOException | SAXException | MarshalException | XMLSignatureException e) {
            throw new GeneralSecurityException(e);
        }
    }

    /**
     * The user of a response signed by the holder of this certificate; the certificate inside the message counts for
     * nothing. As on the real product nothing else is looked at: no audience, recipient, time or repetition (facts 6.3).
     *
     * @param loose take a signature that covers any part of the message (nobody has tried what the real product takes)
     * @throws GeneralSecurityException where the signature is absent, by another key, or does not cover the response
     */
    public static Login verify(Element response, X509Certificate trusted, boolean loose)
            throws GeneralSecurityException {
        NodeList signatures = response.getElementsByTagNameNS(XMLSignature.XMLNS, "Signature");
        if (signatures.getLength() == 0 || signatures.item(0).getParentNode() != response) {
            throw new GeneralSecurityException("Signature element not found in the SAML response");
        }
        response.setIdAttribute("ID", true);
        NodeList parts = response.getElementsByTagNameNS("*", "*");
        for (int i = 0; loose && i < parts.getLength(); i++) {
            if (((Element) parts.item(i)).hasAttribute("ID")) {
                ((Element) parts.item(i)).setIdAttribute("ID", true);
            }
        }
        DOMValidateContext context = new DOMValidateContext(trusted.getPublicKey(), signatures.item(0));
        context.setProperty("org.jcp.xml.dsig.secureValidation", true);
        try {
            XMLSignature signature = XMLSignatureFactory.getInstance("DOM").unmarshalXMLSignature(context);
            Reference covered = (Reference) signature.getSignedInfo().getReferences().get(0);
            boolean enough = loose || covered.getURI().equals("#" + response.getAttribute("ID"));
            if (!signature.validate(context) || !enough) {
                throw new GeneralSecurityException("Signature did not validate against the credential's key");
            }
        } catch (MarshalException | XMLSignatureException e) {
            throw new GeneralSecurityException("Signature did not validate against the credential's key", e);
        }
        Element assertion = Xml.first(response, "Assertion");
        Element statement = Xml.first(assertion, "AuthnStatement");
        return new Login(Xml.text(assertion, "Subject/NameID", ""), statement.getAttribute("SessionIndex"));
    }

    private static Element message(Document document, String kind, String destination) {
        Element message = document.createElementNS(PROTOCOL, "samlp:" + kind);
        document.appendChild(message);
        message.setAttribute("ID", id());
        message.setAttribute("Version", "2.0");
        message.setAttribute("IssueInstant", time(0));
        message.setAttribute("Destination", destination);
        return message;
    }

    private static Element add(Element parent, String namespace, String name) {
        Element child = parent.getOwnerDocument().createElementNS(namespace, name);
        parent.appendChild(child);
        return child;
    }

    private static String id() {
        return "_" + UUID.randomUUID().toString().replace("-", "");
    }

    private static String time(int minutes) {
        return Instant.now().plus(minutes, ChronoUnit.MINUTES).truncatedTo(ChronoUnit.MILLIS).toString();
    }

    private static String encode(Element message) {
        return Base64.getEncoder().encodeToString(Xml.write(message).getBytes(StandardCharsets.UTF_8));
    }

    /** The message in a form field or query parameter: base64, deflated or not. */
    public static Element decode(String encoded) throws IOException {
        return decode(encoded, false);
    }

    /** The same; {@code resolving}: with the external entities that it names, as the real applications do. */
    public static Element decode(String encoded, boolean resolving) throws IOException {
        try {
            byte[] bytes = Base64.getMimeDecoder().decode(encoded);
            if (bytes.length == 0 || bytes[0] != '<') {
                bytes = inflate(bytes);
            }
            String text = new String(bytes, StandardCharsets.UTF_8);
            return (resolving ? Xml.parseResolving(text) : Xml.parse(text)).getDocumentElement();
        } catch (SAXException | IllegalArgumentException e) {
            throw new IOException("not a SAML message", e);
        }
    }

    private static byte[] inflate(byte[] bytes) throws IOException {
        try (InflaterInputStream in = new InflaterInputStream(new ByteArrayInputStream(bytes), new Inflater(true))) {
            return Streams.readAll(in);
        }
    }
}
