package org.runbook.practice.conf;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import javax.xml.parsers.DocumentBuilder;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.parsers.ParserConfigurationException;
import javax.xml.transform.OutputKeys;
import javax.xml.transform.Transformer;
import javax.xml.transform.TransformerException;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.runbook.practice.Literals;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.xml.sax.InputSource;
import org.xml.sax.SAXException;

/**
 * Reading XML by paths of local names, as Carbon does: order and prefixes do not matter. A step may select by one
 * attribute: {@code parameter[name=domain]}.
 */
public final class Xml {
    private Xml() {
    }

    public static Document read(Path file) throws IOException, SAXException {
        try (InputStream in = Files.newInputStream(file)) {
            InputSource source = new InputSource(in);
            source.setSystemId(file.toUri().toString());
            return parse(source);
        }
    }

    public static Document parse(String text) throws IOException, SAXException {
        return parse(new InputSource(new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8))));
    }

    /** As the real applications read a message: Java's factory as it comes, which resolves entities (facts 6.3). */
    public static Document parseResolving(String text) throws IOException, SAXException {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setNamespaceAware(true);
        return parse(new InputSource(new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8))), factory);
    }

    private static Document parse(InputSource source) throws IOException, SAXException {
        try {
            return parse(source, factory());
        } catch (ParserConfigurationException e) {
            throw new IllegalStateException(e);
        }
    }

    private static Document parse(InputSource source, DocumentBuilderFactory factory)
            throws IOException, SAXException {
        try {
            DocumentBuilder builder = factory.newDocumentBuilder();
            builder.setErrorHandler(null);
            return builder.parse(source);
        } catch (ParserConfigurationException e) {
            throw new IllegalStateException(e);
        }
    }

    public static Document empty() {
        try {
            return factory().newDocumentBuilder().newDocument();
        } catch (ParserConfigurationException e) {
            throw new IllegalStateException(e);
        }
    }

    private static DocumentBuilderFactory factory() throws ParserConfigurationException {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setNamespaceAware(true);
        factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        return factory;
    }

    /** Every element below {@code from} that the path names. */
    public static List<Element> all(Element from, String path) {
        List<Element> found = Literals.list(from);
        for (String step : path.split("/")) {
            List<Element> next = new ArrayList<>();
            for (Element parent : found) {
                for (Node child = parent.getFirstChild(); child != null; child = child.getNextSibling()) {
                    if (child instanceof Element && matches((Element) child, step)) {
                        next.add((Element) child);
                    }
                }
            }
            found = next;
        }
        return found;
    }

    private static boolean matches(Element element, String step) {
        String name = element.getLocalName();
        int bracket = step.indexOf('[');
        if (bracket < 0) {
            return name.equals(step);
        }
        String[] test = step.substring(bracket + 1, step.length() - 1).split("=", 2);
        return name.equals(step.substring(0, bracket)) && element.getAttribute(test[0]).equals(test[1]);
    }

    /** The first element that the path names, or null. */
    public static Element first(Element from, String path) {
        List<Element> found = all(from, path);
        return found.isEmpty() ? null : found.get(0);
    }

    /** The trimmed text of the first element that the path names, or the fallback. */
    public static String text(Element from, String path, String fallback) {
        Element found = first(from, path);
        return found == null ? fallback : found.getTextContent().trim();
    }

    public static String write(Node node) {
        try {
            StringWriter text = new StringWriter();
            Transformer transformer = TransformerFactory.newInstance().newTransformer();
            transformer.setOutputProperty(OutputKeys.OMIT_XML_DECLARATION, "yes");
            transformer.transform(new DOMSource(node), new StreamResult(text));
            return text.toString();
        } catch (TransformerException e) {
            throw new IllegalStateException(e);
        }
    }
}
